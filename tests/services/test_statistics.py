"""Tests for L{proxyd.services.statistics}."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd.services.statistics import Statistics


def good() -> Iterable[tuple[str, Mapping[str, object]]]:
    """A source with two lines."""
    yield "pool {name}: {used} in use", {"name": "orders", "used": 3}
    yield "pool {name}: {used} in use", {"name": "shop", "used": 0}


def bad() -> Iterable[tuple[str, Mapping[str, object]]]:
    """A source that fails."""
    raise ValueError("no numbers")


class StatisticsTests(SynchronousTestCase):
    """Each source's lines are logged once a period."""

    def lines(self, events: Iterable[LogEvent]) -> list[str]:
        """What was logged, as a reader sees it."""
        return [formatEvent(event) for event in events]

    def test_every_period(self) -> None:
        """Nothing at the start, then each line once in each period, until it is stopped."""
        clock = Clock()
        statistics = Statistics(clock, [good], period=60.0)
        expected = ["pool orders: 3 in use", "pool shop: 0 in use"]
        with capturedLogs() as events:
            statistics.startService()
            clock.advance(59.0)
            self.assertEqual(self.lines(events), [])
            clock.advance(1.0)
            self.assertEqual(self.lines(events), expected)
            clock.advance(60.0)
            self.assertEqual(self.lines(events), expected * 2)
            statistics.stopService()
            clock.advance(120.0)
            self.assertEqual(self.lines(events), expected * 2)
        self.assertEqual(events[0]["used"], 3)
        self.assertEqual(events[0]["log_level"].name, "info")
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_a_failing_source(self) -> None:
        """A source that fails is logged each time, and keeps no other from speaking."""
        clock = Clock()
        statistics = Statistics(clock, [bad, good])
        statistics.startService()
        self.addCleanup(statistics.stopService)
        with capturedLogs() as events:
            clock.pump([60.0, 60.0])
        self.assertEqual(self.lines(events).count("pool orders: 3 in use"), 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
