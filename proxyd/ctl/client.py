"""
How proxyctl speaks to a running proxyd: by its UNIX socket, or by a URL and the admin token.

Blocking, with the standard library alone: a command has nothing else to do.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import click

from proxyd.config.load import NO_FLAGS, load_config
from proxyd.config.model import Config
from proxyd.errors import ConfigError
from proxyd.web.places import socket_candidates

SECONDS = 90.0
"""For a call as a whole it is the daemon that gives up first, after 60 s."""

TOKEN = "PROXYD_ADMIN_TOKEN"
LARGEST = 256 * 1024 * 1024


class CallFailed(click.ClickException):
    """
    proxyd can't be reached, or refused the call; the text is the line that says why.

    @param status: by which HTTP status it refused; 0: it was not reached
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Where:
    """
    Where proxyd is, as the command line says it.

    @param url: C{http://HOST:PORT} or C{https://HOST:PORT}; None: by the UNIX socket
    @param socket: the socket's path; None: it is looked for
    @param config: the configuration that may name it; None: the one that proxyd would find
    @param ca: PEM, whose certificates are believed; None: those of the system
    """

    url: str | None = None
    socket: str | None = None
    config: str | None = None
    ca: str | None = None


class Client:
    """Makes calls, each on a connection of its own."""

    def __init__(self, where: Where, environment: Mapping[str, str]) -> None:
        """@raise CallFailed: it is not known where proxyd is, or there is no token for it"""
        self._headers = {"Accept": "application/json"}
        self._ca = where.ca
        self._socket = ""
        self._url = where.url
        if where.url is None:
            self._socket = where.socket or found_socket(where.config, environment)
            return
        if not _is_address(where.url):
            raise click.UsageError("--url: http://HOST:PORT or https://HOST:PORT, and no more")
        token = environment.get(TOKEN, "").strip()
        if not token:
            raise CallFailed(f"--url needs the admin token: set {TOKEN}")
        if not token.isascii() or not token.isprintable():
            raise CallFailed(f"what {TOKEN} holds is no admin token: those are ASCII, in one line")
        self._headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **query: object) -> Any:
        """What C{GET} of a path answers; what is None in the query is left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.call("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What C{POST} answers."""
        return self.call("POST", path, body or {})

    def delete(self, path: str, name: str, **query: object) -> Any:
        """What C{DELETE} answers for the one of this name."""
        given = {key: value for key, value in query.items() if value is not None}
        tail = f"?{urlencode(given)}" if given else ""
        return self.call("DELETE", f"{path}/{quote(name, safe='')}{tail}")

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """
        Make a call.

        @raise CallFailed: proxyd is not there, or refused
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            connection = self._connection()
            try:
                connection.request(method, path, data, self._headers)
                answer = connection.getresponse()
                text = answer.read(LARGEST)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise CallFailed(f"{self.place}: {self._reason(error)}") from None
        return self._value(answer.status, text)

    @property
    def place(self) -> str:
        """Where proxyd is."""
        return self._url or self._socket

    def _connection(self) -> http.client.HTTPConnection:
        if self._url is None:
            return _UnixConnection(self._socket)
        parts = urlsplit(self._url)
        assert parts.hostname is not None
        if parts.scheme == "https":
            try:
                context = ssl.create_default_context(cafile=self._ca)
            except OSError as error:
                empty = isinstance(error, ssl.SSLError)
                reason = "it holds no PEM certificate" if empty else error.strerror
                raise CallFailed(f"--ca {self._ca}: {reason}") from None
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=SECONDS, context=context
            )
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)

    def _value(self, status: int, text: bytes) -> Any:
        try:
            value = json.loads(text)
        except ValueError:
            raise CallFailed(
                f"{self.place} answered {status}, and no JSON: that is no proxyd", status
            ) from None
        if status < 400:
            return value
        try:
            error = value["error"]
            problems = [f"{one['where']}: {one['what']}" for one in error.get("problems", ())]
            said = "; ".join(problems) if len(problems) > 1 else str(error["message"])
        except (TypeError, KeyError):
            said = f"{self.place} answered {status}"
        if status == 401:
            said = f"{self.place}: the token in {TOKEN} is not good there"
        raise CallFailed(printable(said), status)

    def _reason(self, error: OSError | http.client.HTTPException) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not believed ({error.verify_message}): --ca FILE names a CA"
        if isinstance(error, PermissionError):
            return "permission denied: the socket is for root and for proxyd's own user"
        if isinstance(error, TimeoutError):
            return "no answer"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused: is proxyd running?"
        if isinstance(error, OSError):
            return error.strerror or str(error)
        return f"its answer is no HTTP ({type(error).__name__})"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP by a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def _is_address(url: str) -> bool:
    """Whether a URL says where something is, and nothing else."""
    try:
        parts = urlsplit(url)
        said = parts.hostname, parts.port
    except ValueError:
        return False
    more = parts.username, parts.query, parts.fragment, parts.path.strip("/")
    return parts.scheme in ("http", "https") and bool(said[0]) and not any(more)


def found_socket(path: str | None, environment: Mapping[str, str]) -> str:
    """
    The path of proxyd's UNIX socket.

    @param path: the configuration that C{-c} named
    @raise CallFailed: there is none where it could be
    """
    try:
        config, _ = load_config(path, NO_FLAGS, directory=".", environment=environment)
    except (ConfigError, OSError):
        if path is not None:
            raise
        # Without a file that can be read it is where it is by default.
        config = Config()
    candidates = socket_candidates(config, environment)
    for candidate in candidates:
        try:
            if stat.S_ISSOCK(os.stat(candidate).st_mode):
                return candidate
        except PermissionError:
            raise CallFailed(
                f"{candidate}: permission denied: it is for root and for proxyd's own user"
            ) from None
        except OSError:
            continue
    raise CallFailed(
        f"proxyd's socket is not there (looked for {', '.join(candidates)}): is it running, with"
        " `api:` in its configuration? Else name it: --url, --socket or -c FILE"
    )


def printable(text: object) -> str:
    """A text that somebody made up, in one line, without a terminal's control characters."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )
