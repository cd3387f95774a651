"""
Waiting with a deadline, for tests that look at another process from outside.

Nothing here sleeps for a fixed time: whoever waits says for what, and for how
long at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOK_SECONDS = 0.01


class DeadlinePassed(TimeoutError):
    """What was waited for did not come in time; the text says what it was."""


class Deadline:
    """
    A point in time from which on nobody waits any more.

    @param seconds: from now
    @param what: what is waited for, in words for the failure
    """

    def __init__(self, seconds: float, what: str) -> None:
        self.seconds = seconds
        self.what = what
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """
        Seconds left, always more than nought.

        @raise DeadlinePassed: there are none
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlinePassed(f"waited {self.seconds:g} s for {self.what}")
        return left


def wait_until(check: Callable[[], object], seconds: float, what: str) -> None:
    """
    Wait until a condition holds that only looking tells.

    @param check: looked at again and again
    @param what: in words for the failure
    @raise DeadlinePassed: it does not hold within these seconds
    """
    deadline = Deadline(seconds, what)
    pause = threading.Event()
    while not check():
        pause.wait(min(LOOK_SECONDS, deadline.left()))
