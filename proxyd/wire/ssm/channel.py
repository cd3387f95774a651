"""
The numbered, acknowledged and repeated frames between us and an agent.

The numbers, timers and rules are those of session-manager-plugin and of the
agent (session/config), but for three places where the plugin is wrong: an old
frame is acknowledged again (else the agent repeats it for ever), the time of
the last repeat is kept, and what is not acknowledged has a bound of our own,
since neither peer has a window. And for one thing that neither has: a frame
that was overtaken is repeated at once. Their one repeat in 100 ms would bring
a line that loses one frame in a hundred down to a megabyte a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.ssm import message as wire
from proxyd.wire.ssm.message import Message

PAYLOAD = 1024
"""Bytes of data in a frame: what both peers send; larger ones trouble the relay."""

WINDOW = 256 * 1024
"""Bytes that are under way at most; more makes the relay pause or close."""

TICK = 0.1
"""Seconds between two looks at the oldest frame."""

PROBE = 1.0
"""Seconds between repeats while the relay asks for a pause."""

LONGEST_PAUSE = 5.0
"""
Seconds that a pause is believed while nothing is under way: there is no frame
then whose repeats would ask whether it is over, and the word for it may be lost.
"""

_FIRST_RTO = 0.2
_FIRST_SRTT = 0.1
_GRANULARITY = 0.01
_MOST_RTO = 1.0

_MOST_EARLY = 10_000
_MOST_EARLY_BYTES = 16 * 1024 * 1024
_MOST_TO_SAY = 4096
"""Frames kept for the future, and acknowledgements that wait to be sent."""


@dataclass(slots=True)
class _Sent:
    """A frame that is not acknowledged yet; it was sent first and last then."""

    data: bytes
    first: float
    last: float


@dataclass(slots=True)
class Counts:
    """What happened, for metrics and tests."""

    received: int = 0
    repeated: int = 0
    duplicates: int = 0
    early: int = 0
    dropped: int = 0
    bad_digests: int = 0
    pauses: int = 0


class Channel:
    """
    Our end of a data channel, over any number of sockets one after the other.

    Whoever has it: gives each message of the socket to L{receive}, sends all
    that L{messages_to_send} has after every call, and calls L{tick} every
    C{TICK} seconds as long as it is L{waiting}.

    @ivar closed: what the relay said when it closed the channel; None: it is open
    @ivar paused: the relay asked to wait
    @ivar under_way: bytes that are not acknowledged
    """

    def __init__(
        self,
        new_id: Callable[[], bytes],
        since: float,
        *,
        ours: str = wire.INPUT,
        theirs: str = wire.OUTPUT,
        window: int = WINDOW,
    ) -> None:
        """
        @param new_id: 16 random bytes
        @param since: the seconds since 1970 when C{now} is 0
        @param ours: the type of the frames we send; the other way round at an agent's end
        """
        self.closed: str | None = None
        self.paused = False
        self.under_way = 0
        self.counts = Counts()
        self.rto = _FIRST_RTO
        self._srtt = _FIRST_SRTT
        self._rttvar = 0.0
        self._new_id = new_id
        self._since = since
        self._ours = ours
        self._theirs = theirs
        self._window = window
        self._syn = wire.SYN if ours == wire.OUTPUT else 0
        self._next = 0
        self._sent: dict[int, _Sent] = {}
        self._looked = float("-inf")
        self._paused_at = 0.0
        self._expected = 0
        self._early: dict[int, tuple[int, bytes]] = {}
        self._early_bytes = 0
        self._out: list[bytes] = []

    # -- out

    @property
    def room(self) -> int:
        """How many bytes of new data may be sent now."""
        return 0 if self.paused else max(0, self._window - self.under_way)

    @property
    def waiting(self) -> bool:
        """Whether L{tick} is to be called."""
        return self.under_way > 0 or self.paused

    @property
    def next_number(self) -> int:
        """The number of the next frame of ours: all before it were sent."""
        return self._next

    @property
    def oldest(self) -> int:
        """The number before which all our frames are acknowledged."""
        return next(iter(self._sent), self._next)

    def send(self, payload_type: int, payload: bytes, now: float) -> None:
        """
        Send one frame of stream data.

        Control frames are sent whatever the L{room}; data only within it.

        @raise LocalProtocolError: the channel is closed
        """
        if self.closed is not None:
            raise LocalProtocolError("the channel is closed")
        number = self._next
        self._next = number + 1
        created = int((self._since + now) * 1000)
        flags = 0 if number else self._syn
        data = wire.build(self._ours, number, flags, self._new_id(), created, payload_type, payload)
        self._sent[number] = _Sent(data, now, now)
        self.under_way += len(payload)
        self._out.append(data)

    def send_data(self, data: bytes, now: float) -> None:
        """Send bytes, in as many frames as they need."""
        if len(data) <= PAYLOAD:
            self.send(wire.DATA, data, now)
            return
        for start in range(0, len(data), PAYLOAD):
            self.send(wire.DATA, data[start : start + PAYLOAD], now)

    def messages_to_send(self) -> list[bytes]:
        """What is to be sent on the socket now, each as one binary message."""
        out, self._out = self._out, []
        return out

    def oldest_age(self, now: float) -> float:
        """For how many seconds the oldest frame has waited for its acknowledgement."""
        for sent in self._sent.values():
            return now - sent.first
        return 0.0

    def tick(self, now: float) -> None:
        """Repeat the oldest frame, and only that, if its time is over; doubt an endless pause."""
        if self.paused and not self._sent and now - self._paused_at > LONGEST_PAUSE:
            self.paused = False
        patience = max(self.rto, PROBE) if self.paused else self.rto
        for sent in self._sent.values():
            if now - sent.last > patience:
                sent.last = now
                self.counts.repeated += 1
                self._out.append(sent.data)
            return

    def resumed(self, now: float) -> None:
        """There is a new socket: send all again that is not acknowledged."""
        self.paused = False
        self._out = [sent.data for sent in self._sent.values()]
        for sent in self._sent.values():
            sent.last = now

    # -- in

    def receive(self, data: bytes, now: float) -> list[tuple[int, bytes]]:
        """
        Take one message of the socket.

        @return: the payloads, with their types, that are next in order
        @raise ProtocolError: it can't be from a relay: end the session
        """
        message = wire.parse(data)
        kind = message.kind
        self.counts.received += 1
        if not message.digest_good:
            self.counts.bad_digests += 1
        if kind == self._theirs:
            self.paused = False
            return self._take(message, now)
        if kind == wire.ACKNOWLEDGE:
            self._acknowledged(wire.acknowledged(message), now)
        elif kind == wire.PAUSE:
            self.counts.pauses += not self.paused
            self.paused = True
            self._paused_at = now
        elif kind == wire.START:
            self.paused = False
        elif kind == wire.CHANNEL_CLOSED:
            self.closed = wire.why_closed(message)
        return []

    def _take(self, message: Message, now: float) -> list[tuple[int, bytes]]:
        number = message.sequence
        if number == self._expected:
            self._say_taken(message, now)
            self._expected = number + 1
            found = [(message.payload_type, message.payload)]
            while self._early and (kept := self._early.pop(self._expected, None)) is not None:
                self._expected += 1
                self._early_bytes -= len(kept[1])
                found.append(kept)
            return found
        if number < 0:
            raise ProtocolError(f"a frame has the number {number}")
        if number < self._expected or number in self._early:
            self.counts.duplicates += 1
            self._say_taken(message, now)
        elif (
            number - self._expected <= _MOST_EARLY
            and self._early_bytes + len(message.payload) <= _MOST_EARLY_BYTES
        ):
            self.counts.early += 1
            self._early[number] = (message.payload_type, message.payload)
            self._early_bytes += len(message.payload)
            self._say_taken(message, now)
        else:
            # Not acknowledged, so it comes again.
            self.counts.dropped += 1
        return []

    def _say_taken(self, message: Message, now: float) -> None:
        if len(self._out) < _MOST_TO_SAY:
            created = int((self._since + now) * 1000)
            self._out.append(wire.acknowledgement(message, self._new_id(), created))

    def _acknowledged(self, number: int, now: float) -> None:
        self.paused = False
        sent = self._sent.pop(number, None)
        if sent is None:
            if number < 0 or number >= self._next:
                raise ProtocolError(
                    f"frame {number} is acknowledged, and never was sent (the next is {self._next})"
                )
            return
        self.under_way -= len(sent.data) - 120
        sample = max(0.0, now - sent.last)
        srtt = self._srtt
        self._rttvar = 0.75 * self._rttvar + 0.25 * abs(srtt - sample)
        self._srtt = srtt = 0.875 * srtt + 0.125 * sample
        self.rto = min(_MOST_RTO, srtt + max(_GRANULARITY, 4 * self._rttvar))
        # Of a frame that was repeated nobody knows which of them was acknowledged.
        slack = max(_GRANULARITY, srtt / 4)
        if sent.last > self._looked + slack and sent.last == sent.first:
            self._looked = sent.last
            self._repeat_overtaken(sent.last - slack, now)

    def _repeat_overtaken(self, before: float, now: float) -> None:
        """
        Repeat the frames that were sent so long before one that has arrived: they are lost.

        Those not repeated yet stand in the order of their sending. It is done
        once in a while, not for every acknowledgement.
        """
        for sent in self._sent.values():
            if sent.last < before:
                sent.last = now
                self.counts.repeated += 1
                self._out.append(sent.data)
            elif sent.last == sent.first:
                return
