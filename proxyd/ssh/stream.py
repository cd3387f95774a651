"""
A channel of an SSH connection as a stream: what a protocol has for its transport.

Both directions have the limits that SSH gives them. What is written beyond
the far window, or beyond what the connection takes, is kept, and the writer is
paused. What comes in while our reader pauses is kept too, and the far window is
opened again only as it is taken: so no more than one window is ever kept.

SSH knows the end of one direction (EOF) and the end of both (CLOSE), and no
reset: L{SshStream.abortConnection} is a CLOSE that waits for nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.interfaces import IStream
from proxyd.net.writer_side import HIGH_WATER, LOW_WATER, WriterSide
from proxyd.target import Target

if TYPE_CHECKING:
    from proxyd.ssh.channels import Channels

_log = Logger()

FIRST_WINDOW = 512 * 1024
"""Bytes that the far side may send at first before it hears from us."""

MOST_WINDOW = 4 * 1024 * 1024
"""To which the window grows, where the far side would else stand still (rate times delay)."""

PACKET = 32 * 1024
"""Bytes of data in one packet: what every server must take (RFC 4253, section 6.1)."""


@implementer(IStream)
class SshStream(WriterSide):
    """
    One channel, from its confirmation to its end.

    @ivar number: its number on our side
    @ivar far_number: its number on the far side, as four bytes
    @ivar closed_by_far: whether the far side has closed it
    @ivar queued: whether it waits for its turn to send
    @ivar received: bytes that came
    @ivar sent: bytes that went
    """

    disconnecting = False

    def __init__(self, channels: Channels, number: int, target: Target) -> None:
        super().__init__(target)
        self.number = number
        self.received = 0
        self.sent = 0
        self.queued = False
        self._channels = channels
        self._protocol: IProtocol | None = None
        # In: what may still come, what is not taken yet.
        self._window = FIRST_WINDOW
        self._window_size = FIRST_WINDOW
        self._taken = 0
        self._taken_at = 0.0
        self._held: deque[bytes] = deque()
        self._paused = False
        self._delivering = False
        self._far_ended = False
        self.closed_by_far = False
        self._told_end = False
        # Out: what may still go, what waits.
        self.far_number = b""
        self._far_window = 0
        self._far_packet = PACKET
        self._ending = False
        self._ended = False

    # -- told by the connection

    def opened(self, far_number: bytes, window: int, packet: int) -> None:
        """The far side has confirmed it."""
        self.far_number = far_number
        self._far_window = window
        self._far_packet = max(1, min(packet, PACKET))

    def attach(self, protocol: IProtocol) -> None:
        """Begin to be the transport of a protocol."""
        self._protocol = protocol
        protocol.makeConnection(self)
        self._deliver()

    def data_received(self, data: bytes) -> bool:
        """Take data; false where the far side breaks its window."""
        size = len(data)
        self._window -= size
        if self._window < 0:
            return False
        self.received += size
        if self._over or self._far_ended:
            return True
        if self._paused or self._held or self._protocol is None or self._delivering:
            self._held.append(data)
            return True
        self._protocol.dataReceived(data)
        self._taken += size
        if self._taken >= self._window_size >> 2 and not self._paused:
            self._open_window()
        return True

    def window_opened(self, size: int) -> None:
        """The far side takes so many more bytes."""
        self._far_window += size
        self._write_on()

    def end_received(self) -> None:
        """The far side sends no more."""
        self._far_ended = True
        self._deliver()

    def close_received(self) -> None:
        """The far side has closed the channel."""
        self.closed_by_far = self._far_ended = True
        self._waiting.clear()
        self.pending = 0
        if self._over:
            return
        if self.disconnecting:
            self._end(_reason(ConnectionDone()))  # read or unread: nobody wants it
        else:
            self._deliver()

    def lost(self, why: str) -> None:
        """The connection is gone."""
        protocol = self._leave()
        if protocol is not None:
            protocol.connectionLost(_reason(ConnectionLost(why)))

    # -- in: IPushProducer

    def pauseProducing(self) -> None:
        """Hand on no more bytes; the far side stops when its window is used up."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Hand on what is held, and then what comes."""
        self._paused = False
        self._deliver()

    def stopProducing(self) -> None:
        """The reader wants no more at all."""
        self.loseConnection()

    def _deliver(self) -> None:
        """Hand on what is held, as long as it is taken, and then the end."""
        protocol = self._protocol
        if protocol is None or self._delivering:
            return
        self._delivering = True
        try:
            while self._held and not self._paused and not self._over:
                data = self._held.popleft()
                protocol.dataReceived(data)
                self._taken += len(data)
        finally:
            self._delivering = False
        if self._over or self._held or self._paused:
            return
        if self._taken >= self._window_size >> 2:
            self._open_window()
        if self.closed_by_far:
            self._end(_reason(ConnectionDone()))
        elif self._far_ended and not self._told_end:
            self._told_end = True
            if IHalfCloseableProtocol.providedBy(protocol):
                protocol.readConnectionLost()
            else:
                self._end(_reason(ConnectionDone()))

    def _open_window(self) -> None:
        """
        Let the far side send as much as was taken, and more if it needs more.

        The window has to hold what is under way in one round trip, twice: where
        it does not, it doubles.
        """
        if self._far_ended or self._over:
            return
        now = self._channels.now()
        rate = self._taken / max(now - self._taken_at, 1e-6)
        more = self._taken
        if (
            rate * self._channels.round_trip * 2 > self._window_size
            and self._window_size < MOST_WINDOW
            and self._taken_at
        ):
            more += self._window_size
            self._window_size *= 2
        self._taken = 0
        self._taken_at = now
        self._window += more
        self._channels.open_window(self.far_number, more)

    # -- out: ITransport, IConsumer

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until they can be sent; see L{registerProducer}."""
        if self._over or self._ending or self.closed_by_far or not data:
            return
        self._waiting.append(data)
        self.pending += len(data)
        if not self.queued:
            self._write_on()
        elif self.pending > HIGH_WATER:
            self._pause_writer()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """The same for several pieces."""
        self.write(b"".join(data))

    def _write_on(self) -> None:
        """Send what can be sent; wait for our turn if the connection takes no more."""
        channels = self._channels
        while self._waiting and self._far_window > 0:
            if not channels.writable:
                channels.wait_for_turn(self)
                break
            self.send_packet()
        channels.flush()
        if self.pending > HIGH_WATER:
            self._pause_writer()
        elif self._producer_paused and self.pending <= LOW_WATER:
            self._resume_writer()
        if not self._waiting:
            self._all_written()

    def turn(self) -> bool:
        """Send one packet; whether there is more to send at once."""
        if self._waiting and self._far_window > 0:
            self.send_packet()
        more = bool(self._waiting and self._far_window > 0)
        if self._producer_paused and self.pending <= LOW_WATER:
            self._resume_writer()
        if not self._waiting:
            self._all_written()
        return more

    def send_packet(self) -> None:
        """Send a packet of what waits, as large as may be."""
        waiting = self._waiting
        limit = min(self._far_packet, self._far_window)
        data = waiting.popleft()
        size = len(data)
        if size > limit:
            view = memoryview(data)
            waiting.appendleft(view[limit:])
            data, size = view[:limit], limit
        elif waiting and size < limit:
            parts = [data]
            while waiting and size + len(waiting[0]) <= limit:
                size += len(waiting[0])
                parts.append(waiting.popleft())
            data = b"".join(parts)
        self.pending -= size
        self._far_window -= size
        self.sent += size
        self._channels.send_data(self.far_number, size, data)

    def _all_written(self) -> None:
        """Nothing waits: say the end, if that is what comes now."""
        if self._over or self.closed_by_far:
            return
        if self._ending and not self._ended:
            self._ended = True
            self._channels.send_end(self.far_number)
            if not self.disconnecting:
                self._channels.call_soon(self._tell_written)
        if self.disconnecting:
            if self._producer_paused:
                self._resume_writer()  # it may have last words
            if not self.pending:
                self._end(_reason(ConnectionDone()))

    def _tell_written(self) -> None:
        protocol: Any = self._protocol
        if protocol is not None and IHalfCloseableProtocol.providedBy(protocol):
            protocol.writeConnectionLost()

    def loseWriteConnection(self) -> None:
        """Say that we send no more, when all that waits is sent."""
        if not self._ending:
            self._ending = True
            if not self._waiting:
                self._all_written()

    def loseConnection(self) -> None:
        """Close the channel, when all that waits is sent, or no more is taken."""
        if self.disconnecting or self._over:
            return
        self.disconnecting = True
        if self.closed_by_far:
            self._end(_reason(ConnectionDone()))
        elif not self._waiting:
            self._all_written()
        if not self._over:
            self._channels.last_bytes.wait(self)

    def abortConnection(self) -> None:
        """Close the channel now; what waits is thrown away."""
        if not self._over:
            self._end(_reason(ConnectionAborted()))

    # -- the end

    def _end(self, reason: Failure) -> None:
        """Close the channel, and tell the protocol: not while it is calling us."""
        self._channels.close(self)
        protocol = self._leave()
        if protocol is not None:
            self._channels.call_soon(protocol.connectionLost, reason)

    def _leave(self) -> IProtocol | None:
        """Forget all that waits; gives the protocol, which is to be told."""
        self._over = True
        self._held.clear()
        self._waiting.clear()
        self.pending = 0
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        protocol, self._protocol = self._protocol, None
        return protocol


def _reason(error: Exception) -> Failure:
    return Failure(error)  # type: ignore[no-untyped-call]
