"""
An agent's end of a stream: the target is looked up, asked about, dialled and joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from proxyd.agents.allow import AllowList
from proxyd.agents.failures import CODES
from proxyd.agents.relay import Relay, StreamSide, TcpSide
from proxyd.agents.session import AgentSession
from proxyd.errors import DialError, DialFailure
from proxyd.net.resolver import Address, Resolver
from proxyd.rules.hosts import plain
from proxyd.target import Principal, Target
from proxyd.wire.agent.frames import Code

_log = Logger()


class Dialer(Protocol):
    """The direct way; see L{DirectDialer<proxyd.dial.direct.DirectDialer>}."""

    def endpoint_for(self, target: Target, principal: Principal) -> IStreamClientEndpoint:
        """To a target by its name."""

    def endpoint_among(self, target: Target, addresses: Sequence[Address]) -> IStreamClientEndpoint:
        """To one of these addresses of a target: nothing is looked up again."""


class Dialling:
    """
    Dials for one session of an agent.

    @ivar relays: connections that are open
    """

    def __init__(
        self,
        clock: IReactorTime,
        dialer: Dialer,
        resolver: Resolver,
        allow: AllowList,
        seconds: float,
    ) -> None:
        """
        @param dialer: the direct one
        @param seconds: that reaching a target may take
        """
        self.session: AgentSession | None = None
        self.relays: set[Relay] = set()
        self._clock = clock
        self._dialer = dialer
        self._resolver = resolver
        self._allow = allow
        self._seconds = seconds
        self._dials: set[Deferred[None]] = set()

    def take(self, number: int, fields: Mapping[str, Any]) -> None:
        """The server wants a stream."""
        dialling = Deferred.fromCoroutine(self._dial(number, fields))
        dialling.addTimeout(self._seconds, self._clock, lambda *_: self._late(number))
        self._dials.add(dialling)

        def over(result: Any) -> None:
            self._dials.discard(dialling)
            if result is not None and not result.check(CancelledError):
                _log.failure("dialling for the server", result)
                self._refuse(number, Code.INTERNAL, "the agent failed")

        dialling.addBoth(over)

    def stop(self) -> None:
        """The session is over: nobody waits for anything any more."""
        for dialling in list(self._dials):
            dialling.cancel()

    def _late(self, number: int) -> None:
        self._refuse(number, Code.TIMEOUT, f"no answer in {self._seconds:g} s")

    def _refuse(self, number: int, code: Code, text: str) -> None:
        if self.session is not None and not self.session.lost_because:
            self.session.refuse(number, code, text)

    async def _dial(self, number: int, fields: Mapping[str, Any]) -> None:
        host, port = fields.get("remote_host"), fields.get("remote_port")
        usable = isinstance(host, str) and type(port) is int and 0 < port < 65536
        if not usable or fields.get("protocol", "tcp") != "tcp":
            self._refuse(number, Code.UNSUPPORTED, "no target that an agent could dial")
            return
        assert isinstance(host, str) and isinstance(port, int)
        target = Target(host, port)
        try:
            addresses = await self._checked(target)
            relay = Relay(self._clock, lambda reason: self._ended(relay, target, reason))
            side = TcpSide(relay)
            factory = Factory.forProtocol(lambda: side)
            await self._dialer.endpoint_among(target, addresses).connect(factory)
        except DialError as error:
            _log.info("not reached: {reason}", reason=str(error))
            self._refuse(number, CODES.get(error.failure, Code.INTERNAL), error.failure.value)
            return
        session = self.session
        if session is None or session.lost_because:
            side.transport.abortConnection()  # type: ignore[union-attr]
            return
        self.relays.add(relay)
        compress = fields.get("compress") is True
        stream = session.accept(number, target, compress)
        relay.join(side.transport, stream)
        stream.attach(StreamSide(relay))

    async def _checked(self, target: Target) -> list[Address]:
        """
        Those of a target's addresses that the list allows.

        @raise DialError: DENIED by the list, or NAME
        """
        found = await self._resolver.resolve(target.host.strip("[]"), target.port)
        by_value = {plain(ip_address(one.host.partition("%")[0])): one for one in found}
        allowed = self._allow.allowed(target.host, target.port, by_value)
        if not allowed:
            raise DialError(DialFailure.DENIED, f"{target} is not on this agent's list")
        return [by_value[one] for one in allowed]

    def _ended(self, relay: Relay, target: Target, reason: str) -> None:
        self.relays.discard(relay)
        _log.debug(
            "{target}: {inward} bytes in, {outward} bytes out, {reason}",
            target=str(target),
            inward=relay.outward,
            outward=relay.inward,
            reason=reason,
        )
