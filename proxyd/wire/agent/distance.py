"""
How far away the peer of a session is, by pings.

Once may be by chance, and late: so each time it is measured several times, one after the
other, and the shortest counts. What a ping waits behind bulk is no distance.
"""

from __future__ import annotations

from collections import deque

PINGS = 5
"""How often it is measured each time."""

AGED = 1.1
"""
How much longer the shortest one is when it is measured again: a long way may change.

One that is short stays so. While bulk flows each ping is late, and in minutes it would be
taken for long.
"""

NEAR = 0.001
"""Seconds of a round trip, below which a way is short."""


class Distance:
    """
    The round trip to a peer.

    @ivar last: seconds that the last ping took; 0: not known yet
    @ivar shortest: the same of the one that took the least
    """

    def __init__(self) -> None:
        self.last = 0.0
        self.shortest = 0.0
        self._sent: deque[tuple[bytes, float]] = deque(maxlen=4)
        self._count = 0
        self._more = 0

    @property
    def near(self) -> bool:
        """Whether the way is known to be short."""
        return 0 < self.shortest < NEAR

    def measure(self, now: float) -> bytes:
        """Begin to measure; gives the word of a ping."""
        if not self.near:
            self.shortest *= AGED
        self._more = PINGS
        return self._next(now)

    def _next(self, now: float) -> bytes:
        self._more -= 1
        self._count += 1
        word = self._count.to_bytes(8, "big")
        self._sent.append((word, now))
        return word

    def answered(self, word: bytes, now: float) -> tuple[bool, bytes]:
        """
        A pong came.

        @return: whether it is the answer to one of ours; and the word of the next ping, empty
            when there is none
        """
        for sent, then in self._sent:
            if sent == word:
                self.last = max(0.0, now - then)
                self.shortest = min(self.last, self.shortest or self.last)
                return True, self._next(now) if self._more else b""
        return False, b""
