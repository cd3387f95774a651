"""
A connection within a session as a stream: what a protocol has for its transport.

Neither a session nor smux has a window for a stream. What comes in while our
reader pauses is kept; past a bound the whole session is held back (see
L{proxyd.ssm.ports}).

Neither knows half-closed connections: the word for the end closes both
directions, and what the far side had still to say is lost. So
L{SsmStream.loseWriteConnection} says nothing, and waits for the far side's end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.interfaces import IStream
from proxyd.net.last_bytes import LastBytes
from proxyd.net.writer_side import HIGH_WATER, LOW_WATER, WriterSide
from proxyd.target import Target

TURN = 16 * 1024 - 8
"""Bytes sent before it is another stream's turn: with smux's header, whole frames."""


class Carrier(Protocol):
    """Whoever takes a stream's bytes along."""

    @property
    def writable(self) -> bool:
        """Whether bytes can be sent now."""

    def put(self, stream: SsmStream, data: bytes) -> None:
        """Send bytes of a stream."""

    def wait_for_turn(self, stream: SsmStream) -> None:
        """Call its C{turn} when bytes can be sent."""

    def sent(self) -> None:
        """What was put is to go now."""

    @property
    def last_bytes(self) -> LastBytes[SsmStream]:
        """Its streams that end when what waits is sent."""

    def kept_changed(self) -> None:
        """A stream keeps more bytes for its reader, or fewer."""

    def leave(self, stream: SsmStream) -> None:
        """A stream has ended, or is to end."""

    def call_soon(self, call: Any, *arguments: Any) -> None:
        """Call, but not now."""

    def call_later(self, seconds: float, call: Any) -> IDelayedCall:
        """Call later."""

    @property
    def half_closed_time(self) -> float:
        """Seconds without a byte after which a stream whose writer has ended is closed."""


@implementer(IStream)
class SsmStream(WriterSide):
    """
    One connection, from its opening to its end.

    @ivar number: its number in the session
    @ivar kept: bytes that its reader has not taken
    @ivar taken: bytes that it has
    @ivar sent: bytes that the far side was sent
    @ivar queued: whether it waits for its turn to send
    @ivar heard: whether anything came from the far side
    """

    disconnecting = False

    def __init__(self, carrier: Carrier, number: int, target: Target) -> None:
        super().__init__(target)
        self.number = number
        self.kept = 0
        self.taken = 0
        self.sent = 0
        self.queued = False
        self.heard = False
        self._carrier = carrier
        self._protocol: IProtocol | None = None
        self._held: deque[bytes] = deque()
        self._paused = False
        self._delivering = False
        self._far_end: Exception | None = None
        self._ending = False
        self._told_written = False
        self._patience: IDelayedCall | None = None
        self._heard_lately = False

    # -- told by the carrier

    def attach(self, protocol: IProtocol) -> None:
        """Begin to be the transport of a protocol."""
        self._protocol = protocol
        protocol.makeConnection(self)
        self._deliver()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.heard = self._heard_lately = True
        if self._over or self._far_end is not None:
            return
        if self._paused or self._held or self._protocol is None or self._delivering:
            self._held.append(data)
            self.kept += len(data)
            self._carrier.kept_changed()
            return
        self.taken += len(data)
        self._protocol.dataReceived(data)

    def far_closed(self, error: Exception | None = None) -> None:
        """Nothing more comes or goes; what came is handed on first."""
        if self._over or self._far_end is not None:
            return
        self._far_end = error or ConnectionDone()
        self._waiting.clear()
        self.pending = 0
        self._deliver()

    def lost(self, why: str) -> None:
        """The session is gone."""
        self.far_closed(ConnectionLost(why))

    # -- in: IPushProducer

    def pauseProducing(self) -> None:
        """Hand on no more bytes."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Hand on what is kept, and then what comes."""
        self._paused = False
        self._deliver()

    def stopProducing(self) -> None:
        """The reader wants no more at all."""
        self.loseConnection()

    def _deliver(self) -> None:
        """Hand on what is kept, as long as it is taken, and then the end."""
        protocol = self._protocol
        if protocol is None or self._delivering:
            return
        before = self.kept
        self._delivering = True
        try:
            while self._held and not self._paused and not self._over:
                data = self._held.popleft()
                self.kept -= len(data)
                self.taken += len(data)
                protocol.dataReceived(data)
        finally:
            self._delivering = False
        if self.kept != before and not self._over:
            self._carrier.kept_changed()
        if self._over or self._held or self._paused:
            return
        if self._far_end is not None:
            self._end(self._far_end)

    # -- out: ITransport, IConsumer

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until they can be sent; see L{registerProducer}."""
        if self._over or self._ending or self._far_end is not None or not data:
            return
        self._waiting.append(data)
        self.pending += len(data)
        if not self.queued:
            if (self._carrier.writable and self.turn()) or self._waiting:
                self._carrier.wait_for_turn(self)
            self._carrier.sent()
        if self.pending > HIGH_WATER:
            self._pause_writer()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """The same for several pieces."""
        self.write(b"".join(data))

    def turn(self) -> bool:
        """Send a part of what waits; whether there is more."""
        if self._over:
            return False
        parts: list[bytes | memoryview] = []
        room = TURN
        waiting = self._waiting
        while waiting and room:
            data = waiting.popleft()
            if len(data) > room:
                view = memoryview(data)
                waiting.appendleft(view[room:])
                data = view[:room]
            parts.append(data)
            room -= len(data)
        if parts:
            self.pending -= TURN - room
            self.sent += TURN - room
            self._carrier.put(self, b"".join(parts))
        if self._producer_paused and self.pending <= LOW_WATER:
            self._resume_writer()
        if not waiting:
            self._all_written()
        return bool(waiting)

    def _all_written(self) -> None:
        """Nothing waits: end, if that is what comes now."""
        if self._over:
            return
        if self._ending and not self._told_written:
            self._told_written = True
            if not self.disconnecting:
                self._carrier.call_soon(self._tell_written)
                self._wait_for_far_end()
        if self.disconnecting and self._producer_paused:
            self._resume_writer()  # it may have last words
        if self.disconnecting and not self.pending and not self._over:
            self._end(ConnectionDone())

    def _tell_written(self) -> None:
        protocol: Any = self._protocol
        if protocol is not None and IHalfCloseableProtocol.providedBy(protocol):
            protocol.writeConnectionLost()

    def _wait_for_far_end(self) -> None:
        """Close it when the far side has said nothing for a while."""
        self._heard_lately = False
        self._patience = self._carrier.call_later(self._carrier.half_closed_time, self._far_silent)

    def _far_silent(self) -> None:
        self._patience = None
        if self._over:
            return
        if self._heard_lately or self._held:
            self._wait_for_far_end()
        else:
            self._end(ConnectionDone())

    def loseWriteConnection(self) -> None:
        """Take no more; the far side, which can't be told, is waited for."""
        if not self._ending and not self._over:
            self._ending = True
            if not self._waiting:
                self._all_written()

    def loseConnection(self) -> None:
        """Close it, when all that waits is sent, or no more is taken."""
        if self.disconnecting or self._over:
            return
        self.disconnecting = True
        if not self._waiting:
            self._all_written()
        if not self._over:
            self._carrier.last_bytes.wait(self)

    def abortConnection(self) -> None:
        """Close it now; what waits is thrown away. There is no reset."""
        if not self._over:
            self._end(ConnectionAborted())

    # -- the end

    def _end(self, error: Exception) -> None:
        """End it, and tell the protocol: not while it is calling us."""
        self._over = True
        self._carrier.last_bytes.forget(self)
        self._held.clear()
        self._waiting.clear()
        self.pending = self.kept = 0
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        protocol, self._protocol = self._protocol, None
        self._carrier.leave(self)
        if protocol is not None:
            reason = Failure(error)  # type: ignore[no-untyped-call]
            self._carrier.call_soon(protocol.connectionLost, reason)
