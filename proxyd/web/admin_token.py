"""The admin token: the configured one, or one made at the first start and kept."""

from __future__ import annotations

import os
import secrets

from proxyd.config.secrets import Secret
from proxyd.errors import StartError

FILE = "admin.token"
"""Its name in the state directory."""

SHORTEST = 16
"""Characters; what is shorter could be guessed."""


def admin_token(given: Secret | None, directory: str = "") -> str:
    """
    The token that opens the API.

    @param given: what the configuration says; None: the one kept in the state
        directory, which is made now if there is none
    @param directory: the state directory; made with mode 0700 if it is not there;
        not looked at where a token is given
    @raise StartError: it can't be read or made, or could be guessed
    """
    if given is not None:
        return _good(given.read(), f"api.admin_token ({given.place})")
    path = os.path.join(directory, FILE)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        try:
            return _read(path)
        except FileNotFoundError:
            return _made(path)
    except OSError as error:
        raise StartError(f"admin token {path}: {error.strerror}") from None


def metrics_token(given: Secret | None) -> str | None:
    """
    The token that opens C{/metrics} only; None: there is none.

    @raise StartError: it can't be read, or could be guessed
    """
    return None if given is None else _good(given.read(), f"api.metrics_token ({given.place})")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode
        token = file.read(4096).strip()
    if mode & 0o077:
        raise StartError(f"admin token {path}: others may read it: chmod 600, or remove it")
    return _good(token, f"admin token {path}")


def _made(path: str) -> str:
    """Make one and put it in its place whole; where another process was faster, its token."""
    token = secrets.token_urlsafe(32)
    beside = f"{path}.{secrets.token_hex(4)}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)
        except FileExistsError:
            return _read(path)
    finally:
        os.unlink(beside)
    return token


def _good(token: str, place: str) -> str:
    if len(token) < SHORTEST:
        raise StartError(f"{place}: a token has at least {SHORTEST} characters")
    if not token.isascii() or not token.isprintable() or " " in token:
        # No client could send it (RFC 6750, section 2.1).
        raise StartError(f"{place}: a token is ASCII, without spaces and control characters")
    return token
