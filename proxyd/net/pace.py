"""
A rate, kept over time: what was read too fast is paid for by waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

BURST = 0.1
"""Seconds for which a rate that was not used is saved up."""


class Rate:
    """Bytes a second, which any number of joins count against together."""

    __slots__ = ("_clock", "_due", "_rate")

    def __init__(self, rate: float, clock: IReactorTime) -> None:
        """@param rate: bytes a second, more than 0"""
        self._rate = rate
        self._clock = clock
        self._due = clock.seconds() - BURST

    def spend(self, count: int) -> float:
        """
        Count bytes that were read.

        @return: the seconds to wait before more may be
        """
        now = self._clock.seconds()
        self._due = max(self._due, now - BURST) + count / self._rate
        return max(0.0, self._due - now)


class Pace:
    """How fast one direction of a join may go."""

    __slots__ = ("_clock", "_rates", "_waiting")

    def __init__(self, rate: float | Rate | Sequence[Rate], clock: IReactorTime) -> None:
        """@param rate: bytes a second, or rates of which each must be kept"""
        self._clock = clock
        if isinstance(rate, Rate):
            self._rates: Sequence[Rate] = (rate,)
        elif isinstance(rate, Sequence):
            self._rates = rate
        else:
            self._rates = (Rate(rate, clock),)
        self._waiting: IDelayedCall | None = None

    def spend(self, count: int) -> float:
        """
        Count bytes that were read.

        @return: the seconds to wait before more may be
        """
        return max(rate.spend(count) for rate in self._rates)

    def wait(self, seconds: float, then: Callable[[], None]) -> None:
        """Call C{then} after so many seconds, unless L{stop} comes first."""

        def over() -> None:
            self._waiting = None
            then()

        self.stop()
        self._waiting = self._clock.callLater(seconds, over)

    def stop(self) -> None:
        """Nobody waits any more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
