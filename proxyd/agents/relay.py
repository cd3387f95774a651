"""
A TCP connection and a stream of an agent's, joined: the same at both ends.

What the one brings goes to the other in the same turn; each is paused while the
other does not take more. FIN goes each way on its own, a reset goes on as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.agents.sockets import READ, Outlet, read_much
from proxyd.config.times import REST_UNREAD
from proxyd.net.pace import Rate

PORTION = 64 * 1024
"""Bytes that are carried at a time where there is a rate: with more it would go by jerks."""


@implementer(IPushProducer)
class _Gate:
    """A producer that two parties may pause: whoever it writes to, and a rate."""

    def __init__(self, producer: Any, clock: IReactorTime, rates: Sequence[Rate]) -> None:
        self._producer = producer
        self._clock = clock
        self._rates = rates
        self._paused = False
        self._waiting: IDelayedCall | None = None

    def spend(self, count: int) -> None:
        """Count bytes; pause if they came too fast."""
        wait = max((rate.spend(count) for rate in self._rates), default=0.0)
        if wait > 0 and self._waiting is None:
            self._producer.pauseProducing()
            self._waiting = self._clock.callLater(wait, self._go_on)

    def _go_on(self) -> None:
        self._waiting = None
        if not self._paused:
            self._producer.resumeProducing()

    def pauseProducing(self) -> None:
        """Whoever it writes to takes no more."""
        self._paused = True
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Whoever it writes to takes more."""
        self._paused = False
        if self._waiting is None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """Whoever it writes to is gone: its end is told by itself."""
        self.close()

    def close(self) -> None:
        """Nobody waits any more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class Relay:
    """
    The two sides of one connection.

    @ivar inward: bytes from the TCP side to the stream
    @ivar outward: bytes from the stream to the TCP side
    @ivar moved: when the last byte went either way, by the clock
    """

    def __init__(
        self,
        clock: IReactorTime,
        ended: Callable[[str], None],
        inward: Sequence[Rate] = (),
        outward: Sequence[Rate] = (),
    ) -> None:
        """
        @param ended: told once, when both sides are gone, and why
        @param inward: rates for what the TCP side sends
        @param outward: rates for what the stream brings
        """
        self.inward = 0
        self.outward = 0
        self.moved = clock.seconds()
        self._clock = clock
        self._ended = ended
        self._rates = (inward, outward)
        self._tcp: Any = None
        self._outlet: Any = None
        self._stream: Any = None
        self._gates: tuple[_Gate, ...] = ()
        self._most = READ
        self._reason = ""
        self._over = 0
        self._late: IDelayedCall | None = None

    def join(self, tcp: Any, stream: Any) -> None:
        """Both are connected: carry from now on. The TCP side is paused until here."""
        self._tcp, self._stream = tcp, stream
        self._outlet = Outlet(tcp)
        self._most = PORTION if self._rates[0] else READ
        self._tcp.bufferSize = min(self._most, self._stream.room)
        if self._rates[1]:
            stream.portion = PORTION
        inward = _Gate(tcp, self._clock, self._rates[0])
        outward = _Gate(stream, self._clock, self._rates[1])
        self._gates = (inward, outward)
        tcp.registerProducer(outward, True)
        stream.registerProducer(inward, True)
        inward.resumeProducing()

    def from_tcp(self, data: bytes) -> None:
        """The TCP side has brought something."""
        self.inward += len(data)
        self.moved = self._clock.seconds()
        self._stream.write(data)
        self._tcp.bufferSize = min(self._most, self._stream.room)
        if self._rates[0]:
            self._gates[0].spend(len(data))

    def from_stream(self, pieces: Sequence[bytes | memoryview]) -> None:
        """The stream has brought something; nobody keeps it."""
        size = sum(map(len, pieces))
        self.outward += size
        self.moved = self._clock.seconds()
        self._outlet.write(pieces)
        if self._rates[1]:
            self._gates[1].spend(size)

    def tcp_ended(self) -> None:
        """The TCP side sends no more."""
        self._stream.loseWriteConnection()

    def stream_ended(self) -> None:
        """The stream brings no more."""
        self._tcp.loseWriteConnection()

    def tcp_lost(self, reason: Failure) -> None:
        """The TCP side is gone."""
        self._lost(reason, self._stream, "the user")

    def stream_lost(self, reason: Failure) -> None:
        """The stream is gone."""
        self._lost(reason, self._tcp, "the far side")

    def abort(self, reason: str) -> None:
        """End both sides now."""
        self._reason = self._reason or reason
        for side in (self._tcp, self._stream):
            if side is not None:
                side.abortConnection()

    def _lost(self, reason: Failure, other: Any, who: str) -> None:
        self._over += 1
        for gate in self._gates:
            gate.close()
        if isinstance(reason.value, ConnectionDone):
            self._reason = self._reason or f"{who} closed"
            if self._over == 1:
                self._late = self._clock.callLater(REST_UNREAD, self._too_late, other)
                other.loseConnection()
        else:
            self._reason = self._reason or f"{who} was lost: {reason.getErrorMessage()}"
            if self._over == 1:
                other.abortConnection()
        if self._over == 2:
            if self._late is not None:
                self._late.cancel()
                self._late = None
            self._ended(self._reason)

    def _too_late(self, other: Any) -> None:
        """What waits for one side is not read there: nobody waits for that for ever."""
        self._late = None
        other.abortConnection()


@implementer(IHalfCloseableProtocol)
class TcpSide(Protocol):
    """The TCP connection of a relay."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    def connectionMade(self) -> None:
        """Nothing is read before the stream is there."""
        assert self.transport is not None
        self.transport.setTcpNoDelay(True)  # type: ignore[attr-defined]
        read_much(self.transport)
        self.transport.pauseProducing()  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        """Carry."""
        self.relay.from_tcp(data)

    def readConnectionLost(self) -> None:
        """FIN."""
        self.relay.tcp_ended()

    def writeConnectionLost(self) -> None:
        """Our FIN is sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Gone."""
        self.relay.tcp_lost(reason)


@implementer(IHalfCloseableProtocol)
class StreamSide(Protocol):
    """The stream of a relay."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    def dataReceived(self, data: bytes) -> None:
        """Carry."""
        self.relay.from_stream((data,))

    def piecesReceived(self, pieces: Sequence[bytes | memoryview]) -> None:
        """The same without a copy."""
        self.relay.from_stream(pieces)

    def readConnectionLost(self) -> None:
        """The far side sends no more."""
        self.relay.stream_ended()

    def writeConnectionLost(self) -> None:
        """Our end is said."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Gone."""
        self.relay.stream_lost(reason)
