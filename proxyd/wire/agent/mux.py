"""
Many streams over one agent's WebSocket, by frames: C{proxyd.mux.v1}.

Each direction of each stream has credit of its own, so that a reader who stops
holds up nobody else, and costs no more memory than its window. Whoever sends
takes turns (deficit round robin), new streams first: a keystroke never waits
behind megabytes. The opener may send up to L{EAGER} bytes before it is
answered; they are kept until the stream is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.agent import events as told
from proxyd.wire.agent import frames
from proxyd.wire.agent.compression import Compressor, Decompressor
from proxyd.wire.agent.distance import Distance
from proxyd.wire.agent.events import Event
from proxyd.wire.agent.frames import COMPRESSED, DATA, FIN, LONGEST, Code, Kind, frame
from proxyd.wire.agent.giving_way import GivingWay
from proxyd.wire.agent.outbox import HIGH, Outbox
from proxyd.wire.agent.stream import EAGER, LEAST_WINDOW, MOST_CREDIT, USUAL, Limits, Stream


class Mux:
    """
    One side of a session.

    After each call look whether L{pending} and send what L{next_message} gives,
    as fast as the WebSocket takes it; then handle L{take_events}.

    @ivar limits: what the session may cost
    @ivar streams_open: how many streams there are
    """

    def __init__(self, *, opener: bool, limits: Limits = USUAL) -> None:
        """@param opener: this side opens streams (the server); the other one accepts them"""
        self._opener = opener
        self.limits = limits
        self._streams: dict[int, Stream] = {}
        self._next = 2 if opener else 1
        self._last_taken = 0
        self._windows = 0
        self._unanswered = 0
        self._outbox = Outbox()
        self._events: list[Event] = []
        self._run: list[bytes | memoryview] = []
        self._run_of = 0
        self._distance = Distance()
        self._giving_way = GivingWay(limits.quick_window, self._distance)

    @property
    def streams_open(self) -> int:
        """How many streams there are."""
        return len(self._streams)

    @property
    def round_trip(self) -> float:
        """Seconds that the last ping took; 0: not known yet."""
        return self._distance.last

    @property
    def full(self) -> bool:
        """Whether no more can be opened now."""
        limits = self.limits
        return len(self._streams) >= limits.streams or self._unanswered >= limits.opening

    @property
    def room(self) -> int:
        """Bytes that may wait to be sent on a stream: with many streams it is less."""
        return self._outbox.high

    @property
    def pending(self) -> bool:
        """Whether there is something to send."""
        return self._outbox.pending

    @property
    def overrun(self) -> bool:
        """Whether the peer reads so little that the session has to end."""
        return self._outbox.overrun

    # Verbs

    def open(self, fields: Mapping[str, Any], now: float, compress: bool = False) -> int:
        """
        Ask for a stream; Opened or OpenFailed will follow.

        @param fields: what the other side is to know; see OpenRequested
        @param compress: what we send is compressed where it pays
        @return: the stream's id
        @raise LocalProtocolError: this side opens none, or it is L{full}
        """
        if not self._opener or self.full:
            raise LocalProtocolError("no stream can be opened")
        number, self._next = self._next, self._next + 2
        stream = self._made(number, EAGER, now)
        if compress:
            stream.compressor = Compressor()
        self._unanswered += 1
        payload = frames.open_payload({**fields, "window": stream.window})
        self._outbox.say(frame(Kind.OPEN, number, payload))
        return number

    def accept(self, number: int, now: float, compress: bool = False) -> None:
        """The stream that was asked for is there; no matter if it is gone again."""
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.answered, stream.held = True, False
        if compress:
            stream.compressor = Compressor()
        self._outbox.say(frame(Kind.OPEN_OK, number, frames.number_payload(stream.window)))
        self._outbox.enlist(stream)

    def refuse(self, number: int, code: Code, text: str = "") -> None:
        """The stream that was asked for can't be had; no matter if it is gone again."""
        stream = self._streams.get(number)
        if stream is None:
            return
        self._forget(stream)
        self._outbox.say(frame(Kind.OPEN_FAIL, number, frames.reason_payload(code, text)))

    def send(self, number: int, data: bytes) -> bool:
        """
        Send on a stream.

        @return: False: it is full; what was given is kept, but give no more
            before its Writable
        """
        stream = self._streams.get(number)
        if stream is None:
            return True  # its end is among the events
        if stream.finishing:
            raise LocalProtocolError("a stream that was finished sends no more")
        return self._outbox.put(stream, data)

    def finish(self, number: int) -> None:
        """Say that no more is sent on a stream, after what is still queued."""
        stream = self._streams.get(number)
        if stream is not None and not stream.finishing:
            stream.finishing = True
            self._outbox.enlist(stream)

    def reset(self, number: int, code: Code, text: str = "") -> None:
        """Give a stream up; what is queued is not sent."""
        stream = self._streams.get(number)
        if stream is not None:
            self._forget(stream)
            self._outbox.say(frame(Kind.RESET, number, frames.reason_payload(code, text)))

    def queued_on(self, number: int) -> int | None:
        """Bytes of a stream that wait to be sent; None: it is gone."""
        stream = self._streams.get(number)
        return None if stream is None else stream.queued

    def consumed(self, number: int, count: int, now: float) -> None:
        """So many bytes of a stream's Data have gone on: the peer may send as many more."""
        stream = self._streams.get(number)
        if stream is None or stream.over:
            return
        stream.consumed += count
        if stream.consumed < stream.window // 4:
            return
        stream.read += stream.consumed
        grant = self._giving_way.credit(stream, stream.consumed, now)
        far = self._distance.shortest / 2 if not self._distance.near else 0.0
        if now - stream.since < far and stream.proven:
            # The window was the limit, not the reader.
            limits = self.limits
            more = min(
                stream.window, limits.most_window - stream.window, limits.budget - self._windows
            )
            if more > 0:
                stream.window += more
                self._windows += more
                grant += more
        stream.consumed = 0
        stream.since = now
        if grant:
            stream.allowed += grant
            self._outbox.say(frame(Kind.CREDIT, number, frames.number_payload(grant)))

    def datagram(self, number: int, data: bytes) -> None:
        """Send a datagram of a stream, or lose it if too much waits already."""
        if number in self._streams and self._outbox.control_size < HIGH:
            self._outbox.say(frame(Kind.DATAGRAM, number, data))

    def ping(self, now: float) -> None:
        """Ask whether the peer is there, and how far away: Alive follows, several times."""
        self._outbox.say(frame(Kind.PING, 0, self._distance.measure(now)))

    def go_away(self, code: Code, text: str = "") -> None:
        """Tell the peer that this session ends, and why."""
        self._outbox.say(frame(Kind.GOAWAY, 0, frames.goaway_payload(code, self._last_taken, text)))

    def next_message(self, room: int = 64 * 1024) -> bytes:
        """
        The next WebSocket message to send; empty when there is nothing.

        @param room: about how long it may get
        """
        return b"".join(self.next_pieces(room)[0])

    def next_pieces(self, room: int) -> tuple[list[bytes | memoryview], int]:
        """
        The same, not yet joined, and how many bytes it has.

        @param room: about how many
        """
        outbox = self._outbox
        message = outbox.next_pieces(room)
        if outbox.drained:
            self._events += [told.Writable(stream.id) for stream in outbox.drained]
            outbox.drained.clear()
        for stream in outbox.ended:
            self._settle(stream)
        outbox.ended.clear()
        return message

    # What comes in

    def receive_message(self, message: bytes | bytearray | memoryview, now: float) -> None:
        """
        Take a whole binary message; what it means is in L{take_events}.

        @raise ProtocolError: the peer broke the protocol: L{go_away} with
            PROTOCOL, send, and close the WebSocket
        """
        try:
            for kind, flags, number, payload in frames.frames_in(memoryview(message)):
                if kind == DATA:
                    self._received(number, flags, payload, now)
                else:
                    self._end_run()
                    self._control(kind, number, bytes(payload), now)
        finally:
            self._end_run()
        if self.overrun:
            raise ProtocolError("the peer asks more than it takes answers")

    def _control(self, kind: int, number: int, payload: bytes, now: float) -> None:
        """A frame without data."""
        if kind in frames.OF_THE_SESSION:
            self._of_session(kind, payload, now)
        elif kind == Kind.OPEN:
            self._asked(number, payload, now)
        elif kind in frames.OF_A_STREAM:
            stream = self._stream(number)
            if stream is not None:
                self._of_stream(stream, kind, payload)

    def take_events(self) -> list[Event]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def _received(self, number: int, flags: int, payload: bytes | memoryview, now: float) -> None:
        stream = self._stream(number)
        if stream is None:
            return
        if stream.over:
            raise ProtocolError("data on a stream that was finished")
        if flags & COMPRESSED:
            if stream.decompressor is None:
                stream.decompressor = Decompressor()
            payload = stream.decompressor.decompress(payload, min(stream.allowed, LONGEST))
        self._giving_way.heard(stream, len(payload), now)
        stream.allowed -= len(payload)
        if stream.allowed < 0:
            raise ProtocolError("more data than there was credit for")
        if number != self._run_of:
            self._end_run()
            self._run_of = number
        if payload:
            self._run.append(payload)
        if flags & FIN:
            self._end_run()
            self._end_of(stream)

    def _end_run(self) -> None:
        """What came for one stream, frame after frame, is one event."""
        if self._run:
            self._events.append(told.Data(self._run_of, tuple(self._run)))
            self._run.clear()

    def _of_session(self, kind: int, payload: bytes, now: float) -> None:
        if kind == Kind.PING:
            self._outbox.say(frame(Kind.PONG, 0, payload[:8]))
        elif kind == Kind.PONG:
            ours, again = self._distance.answered(payload, now)
            if ours:
                self._events.append(told.Alive(self.round_trip))
            if again:
                self._outbox.say(frame(Kind.PING, 0, again))
        else:
            code, _, text = frames.parse_goaway(payload)
            self._events.append(told.GoneAway(code, text))

    def _asked(self, number: int, payload: bytes, now: float) -> None:
        fields = frames.parse_open(payload)
        if self._opener:
            raise ProtocolError("an agent opens no streams")
        if number % 2 or number <= self._last_taken:
            raise ProtocolError("a stream id that can't be new")
        self._last_taken = number
        if len(self._streams) >= self.limits.streams:
            reason = frames.reason_payload(Code.LIMIT, "too many streams")
            self._outbox.say(frame(Kind.OPEN_FAIL, number, reason))
            return
        window = fields.pop("window", LEAST_WINDOW)
        if type(window) is not int or not EAGER <= window < MOST_CREDIT:
            raise ProtocolError("an OPEN with a window that can't be")
        self._made(number, window, now).held = True
        self._events.append(told.OpenRequested(number, fields))

    def _of_stream(self, stream: Stream, kind: int, payload: bytes) -> None:
        number = stream.id
        if kind == Kind.CREDIT:
            stream.credit += frames.parse_number(payload)
            if stream.credit >= MOST_CREDIT:
                raise ProtocolError("more credit than there can be")
            self._outbox.enlist(stream)
        elif kind == Kind.FIN:
            if stream.over:
                raise ProtocolError("a stream was finished twice")
            self._end_of(stream)
        elif kind == Kind.RESET:
            code, text = frames.parse_reason(payload)
            self._forget(stream)
            self._events.append(told.WasReset(number, code, text))
        elif kind == Kind.DATAGRAM:
            self._events.append(told.Datagram(number, payload))
        elif not self._opener or stream.answered:
            raise ProtocolError("an answer to nothing")
        elif kind == Kind.OPEN_FAIL:
            code, text = frames.parse_reason(payload)
            self._forget(stream)
            self._events.append(told.OpenFailed(number, code, text))
        else:
            window = frames.parse_number(payload)
            if not EAGER <= window < MOST_CREDIT:
                raise ProtocolError("an OPEN_OK with a window that can't be")
            stream.credit += window - EAGER
            stream.answered = True
            self._unanswered -= 1
            self._events.append(told.Opened(number))
            self._outbox.enlist(stream)

    # The table of streams

    def _made(self, number: int, credit: int, now: float) -> Stream:
        limits = self.limits
        roomy = self._windows + limits.window <= limits.budget
        stream = Stream(number, limits.window if roomy else LEAST_WINDOW, credit, now)
        self._windows += stream.window
        self._streams[number] = stream
        self._outbox.share(limits.budget, len(self._streams))
        return stream

    def _stream(self, number: int) -> Stream | None:
        """
        A stream by its id; None: it is gone, and the peer may not know yet.

        @raise ProtocolError: there never was one
        """
        stream = self._streams.get(number)
        if stream is None and (
            number % 2
            or not number
            or (number >= self._next if self._opener else number > self._last_taken)
        ):
            raise ProtocolError("a frame for a stream that never was")
        return stream

    def _end_of(self, stream: Stream) -> None:
        """The peer has finished its direction."""
        stream.over = True
        self._events.append(told.Finished(stream.id))
        self._settle(stream)

    def _settle(self, stream: Stream) -> None:
        """Forget a stream when both directions have ended."""
        if stream.over and stream.finished and not stream.gone:
            self._forget(stream)
            self._events.append(told.Closed(stream.id))

    def _forget(self, stream: Stream) -> None:
        del self._streams[stream.id]
        self._outbox.share(self.limits.budget, len(self._streams))
        self._windows -= stream.window + stream.withheld
        self._giving_way.left(stream)
        if self._opener and not stream.answered:
            self._unanswered -= 1
        stream.gone = True
        stream.queue.clear()
        stream.queued = 0
