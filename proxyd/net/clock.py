"""
The time: how long something takes, and what hour it is.

Twisted's reactors measure both by the system's clock, which people and time
services set. Set back by an hour, it would let everything that is about to end
live an hour longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


since_boot: Callable[[], float] = partial(time.clock_gettime, _BOOT)
"""
Seconds by a clock that nobody sets; it goes on while the machine sleeps.

Asked several times for each session: so there is no function of ours around
it. Source: clock_gettime(2), C{CLOCK_BOOTTIME}.
"""


def hour() -> float:
    """Seconds since the epoch, as the system has them now."""
    return time.time()  # noqa: TID251 (this is the wall clock)


@implementer(IReactorTime)
class WallClock:
    """
    A reactor's time, but for the hour, which is the system's.

    For what others wrote a date on: certificates, tokens. Whoever waits for
    such a date by C{callLater} has to look again when it is over: the clock
    may have been set meanwhile.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    def seconds(self) -> float:
        """Seconds since the epoch, as the system has them now."""
        return hour()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """As the reactor's: so many seconds from now, whatever happens to the clock."""
        return self._reactor.callLater(delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """The reactor's."""
        return self._reactor.getDelayedCalls()


def keep_steady(
    reactor: Any,
    wall: Callable[[], float] = hour,
    steady: Callable[[], float] = since_boot,
) -> None:
    """
    Have a reactor measure time by a clock that nobody sets.

    Its C{seconds()} stay what they were, seconds since the epoch: the hour is
    read once, now, and from here on only what has passed is added. Timed calls
    that were made before hold.

    @param wall: seconds since the epoch
    @param steady: seconds since any time
    """
    began = wall() - steady()

    def seconds() -> float:
        return began + steady()

    reactor.seconds = seconds
