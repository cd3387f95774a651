"""
The agent: on a machine in a private network, it dials out to a server and stays.

It needs the server's URL and its token, nothing else. What it dials for the
server is decided by its own list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from proxyd import __version__
from proxyd.agents.allow import AllowList
from proxyd.agents.dialling import Dialer, Dialling
from proxyd.agents.session import AgentSession
from proxyd.agents.websocket import PATH, AgentClientFactory, AgentClientProtocol
from proxyd.config.agents_model import AgentTimes
from proxyd.config.times import AGENT_HANDSHAKE
from proxyd.errors import DialError, DialFailure, StartError
from proxyd.net.http_proxy import ThroughHttpProxy, proxy_for
from proxyd.net.resolver import Resolver
from proxyd.target import Principal, Target
from proxyd.wire.agent.frames import SUBPROTOCOL
from proxyd.wire.agent.hello import Hello
from proxyd.wire.agent.mux import Mux

_log = Logger()

_SELF = Principal("", "agent")


class Agent(Service):
    """
    Keeps one WebSocket to a server, and dials what is asked for through it.

    @ivar session: the session that is up; None: none is
    """

    name = "agent"

    def __init__(
        self,
        reactor: Any,
        url: str,
        token: str,
        dialer: Dialer,
        resolver: Resolver,
        allow: AllowList,
        random: Callable[[], float],
        environment: Mapping[str, str],
        tls: Callable[[str], IOpenSSLClientConnectionCreator] | None = None,
        client_id: str = "",
        times: AgentTimes = AgentTimes(),  # noqa: B008 (frozen)
    ) -> None:
        """
        @param url: C{wss://HOST:PORT/agent}; C{ws} where the server has no TLS
        @param random: a number from 0 up to 1, for jitter
        @param environment: where an HTTP proxy may be named
        @param tls: makes what TLS to a host is spoken by; needed for wss
        @param client_id: who we are; empty: who the token says
        @raise StartError: the URL can't be used
        """
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise StartError(f"{url} is no URL of a server: wss://HOST:PORT{PATH}")
        self.session: AgentSession | None = None
        self._secure = parts.scheme == "wss"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        query = f"?client_id={client_id}" if client_id else ""
        path = parts.path if parts.path not in ("", "/") else PATH
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self._url = f"{parts.scheme}://{shown}:{self._port}{path}{query}"
        self._token = token
        self._reactor = reactor
        self._dialer = dialer
        self._resolver = resolver
        self._allow = allow
        self._random = random
        self._environment = environment
        self._tls = tls
        self._times = times
        self._life: Deferred[None] | None = None
        self._protocol: AgentClientProtocol | None = None
        self._had = Hello()

    def startService(self) -> None:
        """Dial the server, and again whenever it is lost."""
        super().startService()  # type: ignore[no-untyped-call]
        _log.info("this agent dials {allow}", allow=str(self._allow))
        self._life = Deferred.fromCoroutine(self._live())
        self._life.addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        """Leave the server, and close what is open; fires when the server knows."""
        super().stopService()  # type: ignore[no-untyped-call]
        left: Deferred[None] = succeed(None)
        if self.session is not None and self._protocol is not None:
            left = self._protocol.factory.left
            self.session.end("the agent stops")
        if self._life is not None:
            self._life.cancel()
        return left

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            _log.failure("the agent failed", failure)

    async def _live(self) -> None:
        pause = self._times.retry_first
        lost = self._reactor.seconds()
        while True:
            began = self._reactor.seconds()
            try:
                protocol = await self._dial()
            except (DialError, ConnectionError) as error:
                _log.error("{url}: {reason}", url=self._place, reason=str(error))
            else:
                reason = await self._serve(protocol)
                if not self.running:
                    return
                _log.warn("the server is gone: {reason}", reason=reason)
                if self._reactor.seconds() - began > 2 * self._times.retry_longest:
                    pause = self._times.retry_first
                lost = self._reactor.seconds()
            await self._wait(pause * (0.5 + self._random() / 2))
            recent = self._reactor.seconds() - lost < self._times.retry_soon_for
            longest = self._times.retry_soon if recent else self._times.retry_longest
            pause = min(2 * pause, max(longest, pause))

    @property
    def _place(self) -> str:
        return self._url.partition("?")[0]

    def _wait(self, seconds: float) -> Deferred[None]:
        done: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._reactor.callLater(seconds, done.callback, None)
        return done

    async def _dial(self) -> AgentClientProtocol:
        """
        A WebSocket that is open.

        @raise DialError: the server could not be reached
        @raise ConnectionError: it did not want us
        """
        factory = AgentClientFactory(self._url, self._token)
        wanted: Any = factory
        if self._secure:
            if self._tls is None:
                raise DialError(DialFailure.BROKEN, "no TLS is set up")
            wanted = TLSMemoryBIOFactory(self._tls(self._host), True, factory)
        connecting = self._way().connect(wanted)
        connecting.addTimeout(AGENT_HANDSHAKE, self._reactor, _unanswered)
        connection: Any = await connecting
        try:
            return await factory.ready.addTimeout(2 * AGENT_HANDSHAKE, self._reactor, _unanswered)
        except BaseException:
            connection.transport.abortConnection()
            raise

    def _way(self) -> IStreamClientEndpoint:
        proxy = proxy_for(self._host, self._secure, self._environment)
        if proxy is None:
            return self._dialer.endpoint_for(Target(self._host, self._port), _SELF)
        way = self._dialer.endpoint_for(Target(proxy.host, proxy.port), _SELF)
        return ThroughHttpProxy(way, proxy, self._host, self._port)

    async def _serve(self, protocol: AgentClientProtocol) -> str:
        """Serve a session to its end; gives why it ended."""
        if protocol.factory.answered != SUBPROTOCOL:
            protocol.abort()
            return f"it does not speak {SUBPROTOCOL}"
        dialling = Dialling(
            self._reactor, self._dialer, self._resolver, self._allow, self._times.dial
        )
        gone: Deferred[str] = Deferred()

        def lost(reason: str) -> None:
            self.session = None
            dialling.stop()
            if not gone.called:
                gone.callback(reason)

        session = AgentSession(
            Mux(opener=False),
            protocol,
            self._reactor,
            self._times.keepalive,
            taker=dialling.take,
            gone=lost,
        )
        self.session = dialling.session = session
        self._protocol = protocol
        protocol.begin(session)
        protocol.send(replace(self._had, version=__version__, features=()).text())
        _log.info("connected to {url}", url=self._place)
        reason = await gone
        self._had = session.hello
        return reason


def _unanswered(_: object, seconds: float) -> Any:
    raise ConnectionError(f"no answer in {seconds:g} s")
