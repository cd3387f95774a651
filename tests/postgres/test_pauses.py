"""Tests for L{proxyd.postgres.pauses}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.times import ServerTimes
from proxyd.postgres.pauses import Pauses

TIMES = ServerTimes()
FIRST, LONGEST = TIMES.retry_first, TIMES.retry_longest


class PausesTests(SynchronousTestCase):
    """When to try again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.random = 1.0
        self.again = 0
        self.pauses = Pauses(self.clock, lambda: self.random, self.try_again, TIMES)

    def try_again(self) -> None:
        """A pause is over."""
        self.assertFalse(self.pauses.pausing)
        self.again += 1

    def lasts(self, *, starting: bool = False) -> float:
        """How many seconds the pause after a failure lasts."""
        before = self.clock.seconds()
        self.pauses.failed(starting)
        (call,) = self.clock.getDelayedCalls()
        self.clock.advance(call.getTime() - before)
        return self.clock.seconds() - before

    def test_longer_and_longer(self) -> None:
        """Each pause is twice the one before, up to the longest."""
        self.assertFalse(self.pauses.pausing)
        found = [self.lasts() for _ in range(9)]
        self.assertEqual(found[:3], [FIRST, FIRST * 2, FIRST * 4])
        self.assertEqual(found[-1], LONGEST)
        self.assertEqual(self.again, 9)

    def test_jitter(self) -> None:
        """Chance only shortens it, by half at most."""
        self.random = 0.0
        self.assertEqual(self.lasts(), FIRST / 2)

    def test_together(self) -> None:
        """Failures within a pause are the same failure."""
        for _ in range(10):
            self.pauses.failed()
        self.assertTrue(self.pauses.pausing)
        self.clock.advance(FIRST)
        self.assertEqual(self.again, 1)
        self.assertEqual(self.lasts(), FIRST * 2)

    def test_starting(self) -> None:
        """A server that comes up is asked again soon, however often it says so."""
        self.assertEqual([self.lasts(starting=True) for _ in range(5)], [FIRST] * 5)

    def test_succeeded(self) -> None:
        """After a success it begins anew."""
        for _ in range(5):
            self.lasts()
        self.pauses.succeeded()
        self.assertEqual(self.lasts(), FIRST)

    def test_stop(self) -> None:
        """Nothing is tried any more."""
        self.pauses.failed()
        self.pauses.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
