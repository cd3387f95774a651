"""
Bulk gives way to those who say little, where the way is short.

All that is on its way is before the next keystroke of another stream, and keeps the
processors at both ends busy. So while somebody says little on another stream, a
stream has less on its way than it may: what its reader has taken is not given back as
credit until its window is small. It is as large as before once nobody says little.
"""

from __future__ import annotations

from proxyd.wire.agent.distance import Distance
from proxyd.wire.agent.stream import Stream

LITTLE = 4 * 1024
"""Bytes of a keystroke, or of its answer, at most; bulk has small pieces, too, but few."""

A_SECOND = 1024 * 1024
"""Bytes a second, beyond which small pieces are bulk, too."""

MEMORY = 1.0
"""Seconds for which bulk gives way: until the next keystroke of one who types."""

RATE = 128_000_000
"""Bytes a second that a stream's window is large enough for all the same."""


class GivingWay:
    """
    Who gives way, and to whom.

    @param least: bytes that a stream's window has at least
    """

    def __init__(self, least: int, distance: Distance) -> None:
        self._least = least
        self._distance = distance
        self._heard = float("-inf")
        self._whose = 0

    def heard(self, stream: Stream, size: int, now: float) -> None:
        """Data came."""
        if now - stream.second >= 1.0:
            stream.before = stream.moved if now - stream.second < 2.0 else 0
            stream.moved, stream.pieces, stream.second = 0, 0, now
        stream.moved += size
        stream.pieces += 1
        most = min(A_SECOND, LITTLE * stream.pieces)
        if size <= LITTLE and stream.moved <= most and stream.before <= A_SECOND:
            self._heard, self._whose = now, stream.id

    def left(self, stream: Stream) -> None:
        """A stream is gone: nobody gives way to it."""
        if self._whose == stream.id:
            self._heard = float("-inf")

    def credit(self, stream: Stream, count: int, now: float) -> int:
        """
        How much of what a stream's reader has taken the peer is to be told.

        @param count: what was taken; of it some may be withheld, and what was withheld before
            may be given back
        """
        if self._distance.near and now - self._heard < MEMORY and self._whose != stream.id:
            least = max(self._least, int(RATE * self._distance.shortest))
            less = max(0, min(count, stream.window - least))
        else:
            less = -stream.withheld
        stream.window -= less
        stream.withheld += less
        return count - less
