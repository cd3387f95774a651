"""Tests for L{proxyd.net.pace}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.pace import BURST, Pace, Rate


class PaceTests(SynchronousTestCase):
    """A rate is kept, whatever the chunks."""

    def setUp(self) -> None:
        """A thousand bytes a second."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.pace = Pace(1000, self.clock)

    def test_rate(self) -> None:
        """Waiting as told keeps the rate over time, but for what was saved up."""
        began = self.clock.seconds()
        for count in (10, 5000, 1, 300, 7000):
            self.clock.advance(self.pace.spend(count))
        self.assertAlmostEqual(self.clock.seconds() - began, 12.311 - BURST)

    def test_saved_up(self) -> None:
        """A long rest saves up a short burst only."""
        self.clock.advance(3600)
        self.assertEqual(self.pace.spend(100), 0.0)
        self.assertAlmostEqual(self.pace.spend(1000), 1.0)

    def test_wait(self) -> None:
        """Whoever waits goes on after that time, once; a stop forgets it."""
        went: list[str] = []
        self.pace.wait(2, lambda: went.append("first"))
        self.pace.wait(1, lambda: went.append("second"))
        self.clock.advance(5)
        self.assertEqual(went, ["second"])
        self.pace.wait(1, lambda: went.append("third"))
        self.pace.stop()
        self.clock.advance(5)
        self.assertEqual((went, self.clock.getDelayedCalls()), (["second"], []))

    def test_shared(self) -> None:
        """A rate that many count against is kept by all of them together."""
        rate = Rate(1000, self.clock)
        one, other = Pace(rate, self.clock), Pace([rate], self.clock)
        self.assertAlmostEqual(one.spend(1000), 1.0 - BURST)
        self.assertAlmostEqual(other.spend(1000), 2.0 - BURST)

    def test_several(self) -> None:
        """Of several rates the slowest counts."""
        pace = Pace([Rate(1000, self.clock), Rate(100, self.clock)], self.clock)
        self.assertAlmostEqual(pace.spend(1000), 10.0 - BURST)
