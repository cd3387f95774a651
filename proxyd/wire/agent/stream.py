"""
One stream of an agent's session, as one side knows it; and what a session may cost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from proxyd.wire.agent.compression import Compressor, Decompressor

EAGER = 16 * 1024
"""Bytes that may follow an OPEN before its answer."""

LEAST_WINDOW = 64 * 1024
"""Bytes of a stream's window where all windows together are too much already."""

PROVEN = 8
"""Windows that must have been read before one grows: a few megabytes the kernel's buffers take
for a reader who takes nothing."""

MOST_CREDIT = 2**31
"""More credit than this is a fault of the peer's."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What one session may cost.

    @param window: bytes that a new stream may send before they are consumed
    @param quick_window: to which that may shrink where the way is short, while somebody
        says little on another stream
    @param most_window: to which that may grow where the way is long
    @param budget: bytes of all windows together, beyond which none grows; and of all that
        waits to be sent, beyond which writers are held back sooner
    @param held: bytes of all streams together that came and wait for their readers; beyond
        it those who left the most are reset: a peer that keeps to its credit does not get
        there with fewer than a thousand readers who all take nothing
    @param streams: open at a time
    @param opening: of those we asked for, not yet answered
    """

    window: int = 1024 * 1024
    quick_window: int = 32 * 1024
    most_window: int = 8 * 1024 * 1024
    budget: int = 64 * 1024 * 1024
    held: int = 128 * 1024 * 1024
    streams: int = 20_000
    opening: int = 1_000


USUAL = Limits()
"""What a session may cost where nothing else is said."""


class Stream:
    """One stream, as this side knows it."""

    __slots__ = (
        "allowed",
        "answered",
        "before",
        "compressor",
        "consumed",
        "credit",
        "decompressor",
        "finished",
        "finishing",
        "full",
        "gone",
        "held",
        "id",
        "listed",
        "moved",
        "over",
        "pieces",
        "queue",
        "queued",
        "read",
        "second",
        "sent",
        "since",
        "window",
        "withheld",
    )

    def __init__(self, number: int, window: int, credit: int, now: float) -> None:
        self.id = number
        self.window = self.allowed = window
        self.credit = credit
        self.consumed = 0
        self.read = 0
        self.since = now
        self.withheld = 0  # of the window, for a while
        self.second = now
        self.moved = self.before = 0  # bytes that came since then, and in the second before it
        self.pieces = 0  # in which they came since then
        self.queue: deque[memoryview] = deque()
        self.queued = 0
        self.sent = 0
        self.answered = False
        self.full = False
        self.listed = False
        self.held = False  # we have not accepted it yet
        self.gone = False
        self.finishing = False  # we were told that no more is to be sent
        self.finished = False  # and have sent so
        self.over = False  # the peer has
        self.compressor: Compressor | None = None
        self.decompressor: Decompressor | None = None

    @property
    def proven(self) -> bool:
        """Whether so much has been read that whoever reads does read."""
        return self.read >= PROVEN * self.window
