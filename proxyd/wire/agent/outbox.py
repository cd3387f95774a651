"""
What one side of a session has to send, and whose turn it is.

Control first; then streams in turns (deficit round robin, RFC 8290 section 4.2,
with those that have little to say before the others), so that a keystroke never
waits behind megabytes.
"""

from __future__ import annotations

from collections import deque

from proxyd.wire.agent.frames import HEADER, LONGEST, Flag, Kind, frame
from proxyd.wire.agent.stream import Stream

QUANTUM = 65_450
"""
Bytes that a stream sends before it is the next one's turn, where messages are that long.

For the far side they are one write: with few bytes of each of many streams it would do little
else.
"""

LEAST_QUANTUM = 16 * 1024
"""The same where they are short."""

FIRST = 16 * 1024
"""A stream's first bytes, which go before others'."""

LITTLE = 4 * 1024
"""So many bytes of a stream that has nothing else to send do so, too."""

HIGH = 256 * 1024
"""A stream with more than this waiting to be sent is full until it is down to a quarter."""

LEAST_HIGH = 16 * 1024
"""The same where there are so many streams that all of theirs would be too much."""

CONTROL_LIMIT = 1024 * 1024
"""Bytes of control that wait for a peer; one for whom more would have to wait does not read."""


class Outbox:
    """
    Frames and streams that wait to be sent.

    @ivar drained: streams that were full and take more; whoever asks empties it
    @ivar ended: streams whose last frame has been sent; whoever asks empties it
    @ivar high: bytes that a stream may have waiting before it is full
    """

    def __init__(self) -> None:
        self.drained: list[Stream] = []
        self.ended: list[Stream] = []
        self.control_size = 0
        self.high = HIGH
        self._control: deque[bytes] = deque()
        self._fresh: deque[Stream] = deque()
        self._ready: deque[Stream] = deque()

    @property
    def pending(self) -> bool:
        """Whether there is something to send."""
        return bool(self._control or self._fresh or self._ready)

    @property
    def overrun(self) -> bool:
        """Whether there is more to be said than the peer takes."""
        return self.control_size > CONTROL_LIMIT

    def say(self, data: bytes) -> None:
        """Send a frame before all data; see L{overrun}."""
        self._control.append(data)
        self.control_size += len(data)

    def put(self, stream: Stream, data: bytes) -> bool:
        """Queue data of a stream; False: it is full now."""
        if data:
            stream.queue.append(memoryview(data))
            stream.queued += len(data)
            self.enlist(stream)
        stream.full = stream.full or stream.queued > self.high
        return not stream.full

    def share(self, budget: int, streams: int) -> None:
        """Let so many streams have so much waiting, together."""
        self.high = max(LEAST_HIGH, min(HIGH, budget // max(1, streams)))

    def enlist(self, stream: Stream) -> None:
        """Put a stream in the row of those that have something to send and may send it."""
        if stream.listed or stream.held or stream.gone:
            return
        if (stream.queue and stream.credit > 0) or (
            stream.finishing and not stream.queue and not stream.finished
        ):
            stream.listed = True
            soon = stream.sent < FIRST or stream.queued <= LITTLE
            (self._fresh if soon else self._ready).append(stream)

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
        parts: list[bytes | memoryview] = []
        size = turns = 0
        while self._control and size < room:
            said = self._control.popleft()
            parts.append(said)
            size += len(said)
        self.control_size -= size
        if self._control:
            return parts, size  # a stream's OPEN may be there still
        while size < room and self._fresh:
            size += self._next(self._fresh, parts, room - size, FIRST)
        # However many have little to say, the others are not passed for ever. And each of
        # them has the same: none is given what is left of a message.
        while self._ready and (not turns or size <= room - LEAST_QUANTUM):
            size += self._next(self._ready, parts, room - size, min(room, QUANTUM))
            turns += 1
        return parts, size

    def _next(
        self, row: deque[Stream], parts: list[bytes | memoryview], room: int, share: int
    ) -> int:
        """Let the first of a row have its turn; how many bytes that is."""
        stream = row.popleft()
        stream.listed = False
        if stream.gone:
            return 0
        alone = not self._fresh and not self._ready
        return self._turn(stream, parts, max(LEAST_QUANTUM, room if alone else share))

    def _turn(self, stream: Stream, parts: list[bytes | memoryview], share: int) -> int:
        """Let a stream send its share; how many bytes that is."""
        size = 0
        while share > 0 and stream.queue and stream.credit > 0:
            data = stream.queue[0]
            take = min(len(data), share, stream.credit, LONGEST)
            if take == len(data):
                stream.queue.popleft()
            else:
                stream.queue[0] = data[take:]
                data = data[:take]
            stream.queued -= take
            stream.credit -= take
            stream.sent += take
            share -= take
            last = stream.finishing and not stream.queue
            size += self._data(stream, data, last, parts)
        if stream.finishing and not stream.queue and not stream.finished:
            stream.finished = True
            parts.append(frame(Kind.FIN, stream.id))
            size += HEADER.size
        if stream.finished:
            self.ended.append(stream)
        else:
            self.enlist(stream)
            if stream.full and stream.queued <= self.high // 4:
                stream.full = False
                self.drained.append(stream)
        return size

    def _data(
        self, stream: Stream, data: memoryview, last: bool, parts: list[bytes | memoryview]
    ) -> int:
        flags = 0
        if stream.compressor is not None:
            packed = stream.compressor.compress(bytes(data))
            if packed is not None and len(packed) <= LONGEST:
                flags, data = Flag.COMPRESSED, memoryview(packed)
            elif packed is None:
                stream.compressor = None
        if last:
            flags |= Flag.FIN
            stream.finished = True
        parts.append(HEADER.pack(Kind.DATA, flags, len(data), stream.id))
        parts.append(data)
        return HEADER.size + len(data)
