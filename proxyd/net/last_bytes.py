"""
What waits for a far side when whoever wrote it has gone: not for ever.

For streams whose far side says how much it takes: one that says nothing more
would keep the bytes, and the stream with them, as long as its connection lives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

from proxyd.config.times import LAST_BYTES
from proxyd.net.deadlines import Deadlines

T = TypeVar("T")


class LastBytes(Generic[T]):
    """
    Streams that end when their last bytes are sent.

    A far side that is slow is waited for as long as it takes something in each
    span of C{seconds}; one that takes nothing in one of them is given up.
    """

    def __init__(
        self,
        clock: IReactorTime,
        moved: Callable[[T], int],
        give_up: Callable[[T], object],
        seconds: float = LAST_BYTES,
    ) -> None:
        """
        @param moved: a number that changes when bytes of a stream go
        @param give_up: ends a stream at once; it is forgotten here
        """
        self._moved = moved
        self._give_up = give_up
        self._before: dict[T, int] = {}
        self._spans: Deadlines[T] = Deadlines(clock, seconds, self._look)

    def __len__(self) -> int:
        return len(self._before)

    def wait(self, stream: T) -> None:
        """Nobody writes to it any more."""
        if stream not in self._before:
            self._before[stream] = self._moved(stream)
            self._spans.add(stream)

    def forget(self, stream: T) -> None:
        """It has ended, if it waits here at all."""
        if self._before.pop(stream, None) is not None:
            self._spans.discard(stream)

    def stop(self) -> None:
        """All of them have ended."""
        self._before.clear()
        self._spans.stop()

    def _look(self, stream: T) -> None:
        """A span is over."""
        if self._moved(stream) != self._before.pop(stream):
            self.wait(stream)
        else:
            self._give_up(stream)
