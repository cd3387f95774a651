"""
The way out through a corporate HTTP proxy, where the environment names one.

C{HTTPS_PROXY} (for wss and https), C{HTTP_PROXY} (for ws and http),
C{NO_PROXY}, in either case, as curl reads them; a C{CONNECT} (RFC 9110, section
9.3.6) and then the bytes as they are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.errors import DialError, DialFailure

_ANSWER_LIMIT = 16 * 1024
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class HttpProxy:
    """
    Where a proxy is.

    @param credentials: C{USER:PASSWORD} for it; empty: none
    """

    host: str
    port: int
    credentials: str = field(default="", repr=False)


def proxy_for(host: str, secure: bool, environment: Mapping[str, str]) -> HttpProxy | None:
    """
    The proxy that the environment names for a host; None: none.

    @param secure: the way inside is TLS
    """
    lowered = {name.lower(): value for name, value in environment.items() if value}
    for entry in lowered.get("no_proxy", "").split(","):
        suffix = entry.strip().lower().lstrip(".")
        if suffix == "*" or (
            suffix and (host.lower() == suffix or host.lower().endswith(f".{suffix}"))
        ):
            return None
    text = lowered.get("https_proxy" if secure else "http_proxy") or lowered.get("all_proxy")
    if not text:
        return None
    url = urlsplit(text if "://" in text else f"http://{text}")
    if url.scheme not in _PORTS or not url.hostname:
        return None
    credentials = ""
    if url.username is not None:
        credentials = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return HttpProxy(url.hostname, url.port or _PORTS[url.scheme], credentials)


@implementer(IStreamClientEndpoint)
class ThroughHttpProxy:
    """A host beyond an HTTP proxy."""

    def __init__(self, way: IStreamClientEndpoint, proxy: HttpProxy, host: str, port: int) -> None:
        """
        @param way: to the proxy itself
        @param host: where to go beyond it; it is resolved there
        """
        self._way = way
        self._proxy = proxy
        self._host = host
        self._port = port

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fails with L{DialError} when the proxy says no. No deadline of its own."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        asking: Any = await self._way.connect(Factory.forProtocol(_Asking))
        try:
            return await asking.ask(self._request(), factory, f"{self._host}:{self._port}")  # type: ignore[no-any-return]
        except BaseException:
            asking.transport.abortConnection()
            raise

    def _request(self) -> bytes:
        host = f"[{self._host}]" if ":" in self._host else self._host
        place = f"{host}:{self._port}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if self._proxy.credentials:
            word = base64.b64encode(self._proxy.credentials.encode()).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {word}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


class _Asking(Protocol):
    """A connection to a proxy until it has said yes; then it is somebody else's."""

    def __init__(self) -> None:
        self._answer = b""
        self._inner: IProtocol | None = None
        self._factory: IProtocolFactory | None = None
        self._done: Deferred[IProtocol] = Deferred()
        self._place = ""

    def ask(self, request: bytes, factory: IProtocolFactory, place: str) -> Deferred[IProtocol]:
        """Say C{CONNECT}."""
        self._factory = factory
        self._place = place
        assert self.transport is not None
        self.transport.write(request)
        return self._done

    def dataReceived(self, data: bytes) -> None:
        """The proxy's answer, then what is beyond it."""
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        if not end:
            if len(self._answer) > _ANSWER_LIMIT:
                self._refused("its answer is too long")
            return
        status = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        if len(status) < 2 or not status[0].startswith("HTTP/1.") or not status[1].startswith("2"):
            self._refused(" ".join(status[1:])[:200] or "no HTTP")
            return
        assert self._factory is not None and self.transport is not None
        inner = self._factory.buildProtocol(self.transport.getPeer())
        if inner is None:
            self._refused("nobody wants it any more")
            return
        self._inner = inner
        inner.makeConnection(self.transport)
        if rest:
            inner.dataReceived(rest)
        self._done.callback(inner)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end of it."""
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self._done.called:
            self._refused("it closed the connection")

    def _refused(self, why: str) -> None:
        if not self._done.called:
            error = DialError(DialFailure.BROKEN, f"{self._place}: the HTTP proxy says: {why}")
            self._done.errback(Failure(error))  # type: ignore[no-untyped-call]
