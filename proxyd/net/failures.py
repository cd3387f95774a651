"""
Who has given wrong passwords lately, and how long each has to wait before the next is looked at.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from proxyd.config.times import PasswordTimes

FREE_FAILURES = 3
"""Failures of one user from one address that cost no waiting yet."""

REMEMBERED = 10_000

Who = tuple[str, str]
"""An address, and the name that was given from there."""


class Failures:
    """The failures of those who log in by one listener."""

    def __init__(self, clock: IReactorTime, times: PasswordTimes) -> None:
        self._clock = clock
        self._times = times
        self._known: OrderedDict[Who, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def pause(self, who: Who) -> Deferred[None] | None:
        """
        Let somebody wait who has failed too often, before his password is looked at.

        A right password waits as well, or the pause would tell which one is right.

        @return: fires when it is over; None: there is none
        """
        known = self._known.get(who)
        if known is None:
            return None
        count, last = known
        if self._clock.seconds() - last > self._times.forgiven:
            del self._known[who]
            return None
        if count < FREE_FAILURES:
            return None
        first, longest = self._times.first_pause, self._times.longest_pause
        seconds = min(first * 2 ** (count - FREE_FAILURES), longest)
        return deferLater(self._clock, seconds, lambda: None)

    def failed(self, who: Who) -> None:
        """His password was wrong."""
        count, _ = self._known.pop(who, (0, 0.0))
        self._known[who] = (min(count + 1, 16), self._clock.seconds())
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def succeeded(self, who: Who) -> None:
        """He is in: what was before is forgotten."""
        self._known.pop(who, None)

    def forget(self) -> None:
        """Forget all of them."""
        self._known.clear()
