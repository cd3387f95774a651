"""
The WebSocket of a session: opened as AWS wants it, and what goes wrong on the way there.

autobahn does the protocol, but for whole binary messages once it is open
(L{proxyd.wire.ssm.frames}). The upgrade is signed where there are credentials,
since AWS's own client does so; a relay that refuses it (403) is asked once
more without, since a right to open sessions need not be one to sign for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IDelayedCall, IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.config.times import LINGER
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IDialer
from proxyd.net.http_proxy import ThroughHttpProxy, proxy_for
from proxyd.session_source import ISessionSource
from proxyd.target import Principal, Target
from proxyd.wire.ssm.frames import KEY, framed, whole_messages
from proxyd.wire.ssm.message import LARGEST

_log = Logger()
_OURSELVES = Principal("", "proxyd")
_FORBIDDEN = 403

Trust = Callable[[str], IOpenSSLClientConnectionCreator]


class Owner(Protocol):
    """Whose socket it is."""

    def messages_received(self, messages: Sequence[bytes]) -> None:
        """Binary messages came: all that one read of the socket gave."""

    def heard(self) -> None:
        """The relay has answered a ping."""

    def clogged(self, full: bool) -> None:
        """So much waits to be sent that no more should be, or it has become less."""

    def socket_lost(self, why: str) -> None:
        """It is gone; called once, and not when we closed it."""


class _Refused(DialError):
    """The relay said 403."""


class SsmSocket(WebSocketClientProtocol):
    """One WebSocket to AWS's relay."""

    owner: Owner | None = None
    http_status_line = ""
    _lingering: IDelayedCall | None = None

    def onOpen(self) -> None:
        """It is open."""
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self.factory.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A message came; a text is none of the protocol's."""
        if isBinary and self.owner is not None:
            self.owner.messages_received((payload,))

    def processData(self) -> bool:
        """
        Take from C{data} what it begins with: whole messages here, all else in autobahn.

        @return: whether there may be more to take
        """
        within: Any = self.current_frame  # autobahn's types know only its beginning: None
        if self.state == self.STATE_OPEN and within is None and not self.inside_message:
            messages, size, wait = whole_messages(self.data)
            if messages:
                self.data = self.data[size:]
                if self.owner is not None:
                    self.owner.messages_received(messages)
            if wait:
                return False
        return bool(super().processData())

    def onPong(self, payload: bytes) -> None:
        """The relay lives."""
        if self.owner is not None:
            self.owner.heard()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """It is gone, or never was open. Real relays hang up without a goodbye."""
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        owner, self.owner = self.owner, None
        why = reason or "the connection was lost"
        self.factory.failed(self.http_status_line, why)
        if owner is not None:
            owner.socket_lost(why)

    # What the transport tells a producer: autobahn has methods of the same names that do nothing.

    def pauseProducing(self) -> None:
        """Enough for now."""
        if self.owner is not None:
            self.owner.clogged(True)

    def resumeProducing(self) -> None:
        """Go on."""
        if self.owner is not None:
            self.owner.clogged(False)

    def stopProducing(self) -> None:
        """The connection is gone; it is told by C{onClose}."""

    # For the session

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self.sendMessage(text.encode(), isBinary=False)  # type: ignore[no-untyped-call]

    def send_all(self, messages: Sequence[bytes]) -> None:
        """Send binary messages: in one write, since most are small."""
        if self.state == self.STATE_OPEN:
            transport: Any = self.transport
            transport.write(framed(messages, os.urandom(KEY * len(messages))))

    def ping(self) -> None:
        """Ask whether the relay lives."""
        if self.state == self.STATE_OPEN:
            self.sendPing(b"keepalive")

    def hold(self, held: bool) -> None:
        """Read nothing more for now, or go on."""
        transport: Any = self.transport
        if transport is not None:
            (transport.pauseProducing if held else transport.resumeProducing)()

    def leave(self) -> None:
        """Close it, and tell nobody."""
        self.owner = None
        self.hold(False)
        if self.state == self.STATE_OPEN:
            self.sendClose(1000)
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()
        self._lingering = self.factory.reactor.callLater(LINGER, transport.abortConnection)

    def drop(self) -> None:
        """It is dead: close it now; the owner is told."""
        transport: Any = self.transport
        transport.abortConnection()


class _Factory(WebSocketClientFactory):
    """Makes one L{SsmSocket}."""

    protocol = SsmSocket
    noisy = False

    def __init__(self, reactor: Any, url: str, headers: Mapping[str, str]) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            url, headers=dict(headers), useragent="proxyd", reactor=reactor
        )
        self.setProtocolOptions(  # type: ignore[no-untyped-call]
            # Deadlines are ours: autobahn's timers outlive what they are for.
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
            maxFramePayloadSize=LARGEST,
            maxMessagePayloadSize=LARGEST,
            failByDrop=True,
        )
        self.reactor = reactor
        self.ready: Deferred[SsmSocket] = Deferred()

    def opened(self, socket: SsmSocket) -> None:
        """It is open."""
        if not self.ready.called:
            self.ready.callback(socket)

    def failed(self, status: str, why: str) -> None:
        """It is not."""
        if self.ready.called:
            return
        words = status.split()
        refused = len(words) > 1 and words[1] == str(_FORBIDDEN)
        kind = _Refused if refused else DialError
        self.ready.errback(Failure(kind(DialFailure.BROKEN, why)))  # type: ignore[no-untyped-call]


class SocketOpener:
    """
    Opens sessions' WebSockets.

    @param dialer: the way to the relay
    @param source: signs
    @param trust: by what relays are believed, for a host's name
    @param environment: names the HTTP proxy, if there is one
    @param clear: whether C{ws://} is taken: for tests
    """

    def __init__(
        self,
        reactor: Any,
        dialer: IDialer,
        source: ISessionSource,
        trust: Trust,
        environment: Mapping[str, str],
        *,
        clear: bool = False,
        seconds: float = 15.0,
    ) -> None:
        self._reactor = reactor
        self._dialer = dialer
        self._source = source
        self._trust = trust
        self._environment = environment
        self._clear = clear
        self._seconds = seconds

    async def open(self, url: str) -> SsmSocket:
        """
        Open one.

        @raise DialError: BROKEN or TLS, with what was said
        """
        host, port, secure = self._place(url)
        headers = await self._source.sign(url, f"{host}:{port}")
        try:
            return await self._open(url, host, port, secure, headers)
        except _Refused as problem:
            if not headers:
                raise DialError(
                    DialFailure.BROKEN, f"the relay {host} refuses the session: {problem.detail}"
                ) from None
        _log.warn("the relay {host} refuses a signed opening; it is tried without", host=host)
        try:
            return await self._open(url, host, port, secure, {})
        except _Refused as problem:
            raise DialError(
                DialFailure.BROKEN,
                f"the relay {host} refuses the session, signed or not: do these credentials "
                f"allow ssmmessages:OpenDataChannel? ({problem.detail})",
            ) from None

    async def _open(
        self, url: str, host: str, port: int, secure: bool, headers: Mapping[str, str]
    ) -> SsmSocket:
        factory = _Factory(self._reactor, url, headers)
        endpoint = self._way(host, port, secure)
        if secure:
            endpoint = wrapClientTLS(self._trust(host), endpoint)
        connecting = endpoint.connect(factory)
        connecting.addTimeout(self._seconds, self._reactor, _too_late)
        made: Any = await connecting
        factory.ready.addTimeout(self._seconds, self._reactor, _too_late)
        try:
            return await factory.ready
        except DialError as problem:
            if isinstance(problem, _Refused):
                raise
            raise DialError(
                problem.failure, f"the relay {host} can't be spoken to: {problem.detail}"
            ) from None
        finally:
            if made.state != made.STATE_OPEN:
                made.transport.abortConnection()

    def _way(self, host: str, port: int, secure: bool) -> Any:
        """Directly, or through the proxy that the environment names."""
        proxy = proxy_for(host, secure, self._environment)
        if proxy is None:
            return self._dialer.endpoint_for(Target(host, port), _OURSELVES)
        to_proxy = self._dialer.endpoint_for(Target(proxy.host, proxy.port), _OURSELVES)
        return ThroughHttpProxy(to_proxy, proxy, host, port)

    def _place(self, url: str) -> tuple[str, int, bool]:
        """Host, port, and whether it is TLS."""
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        if not parts.hostname or not (secure or (parts.scheme == "ws" and self._clear)):
            raise DialError(
                DialFailure.BROKEN, f"AWS gave an address that is no wss:// one: {url[:60]!r}"
            )
        return parts.hostname, parts.port or (443 if secure else 80), secure


def _too_late(_: object, seconds: float) -> Any:
    raise DialError(DialFailure.TIMEOUT, f"the relay did not answer in {seconds:g} s")
