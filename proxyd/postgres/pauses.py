"""
When to try again to reach a server that could not be reached.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from proxyd.config.times import ServerTimes


class Pauses:
    """The pauses between attempts, of which several may run at a time."""

    def __init__(
        self,
        clock: IReactorTime,
        random: Callable[[], float],
        again: Callable[[], object],
        times: ServerTimes,
    ) -> None:
        """
        @param random: a number from 0 up to 1: a pause is shortened by up to half of itself
        @param again: called when a pause is over
        @param times: how long the first pause is, and the longest; each is
            twice the one before
        """
        self._clock = clock
        self._random = random
        self._again = again
        self._first, self._longest = times.retry_first, times.retry_longest
        self._next = self._first
        self._end = 0.0
        self._call: IDelayedCall | None = None

    @property
    def pausing(self) -> bool:
        """Whether it is too early for another attempt."""
        return self._clock.seconds() < self._end

    def failed(self, starting: bool = False) -> None:
        """
        Begin a pause after an attempt that failed; attempts that fail together are one failure.

        @param starting: the server is about to come up: don't wait longer and longer
        """
        if self.pausing:
            return
        seconds = self._next * (0.5 + self._random() / 2)
        self._next = self._first if starting else min(self._next * 2, self._longest)
        self._end = self._clock.seconds() + seconds
        if self._call is None:
            self._call = self._clock.callLater(seconds, self._over)

    def succeeded(self) -> None:
        """The next pause is a short one again."""
        self._next = self._first

    def stop(self) -> None:
        """Try no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _over(self) -> None:
        self._call = None
        self._again()
