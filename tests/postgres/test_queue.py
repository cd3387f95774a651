"""Tests for L{proxyd.postgres.queue}; those of the pool show it at work."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.postgres.answers import Fatal
from proxyd.postgres.queue import Queue

ONE: Any = "a connection"


class QueueTests(SynchronousTestCase):
    """First come, first served."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.queue = self.make()

    def make(self) -> Queue:
        """A queue in which one waits ten seconds at most."""
        return Queue(self.clock, 10.0, lambda: Fatal("53300", "too late"))

    def test_served_in_turn(self) -> None:
        """Whoever came first is served first; with nobody there nothing is taken."""
        first, second = self.queue.join(), self.queue.join()
        self.assertTrue(self.queue.serve(ONE))
        self.assertEqual(self.successResultOf(first), ONE)
        self.assertNoResult(second)
        self.assertTrue(self.queue.serve(ONE))
        self.assertFalse(self.queue.serve(ONE))
        self.assertEqual(self.successResultOf(second), ONE)

    def test_given_up(self) -> None:
        """A place that was given up is not served."""
        first, second = self.queue.join(), self.queue.join()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(len(self.queue), 1)
        self.queue.serve(ONE)
        self.successResultOf(second)

    def test_too_late(self) -> None:
        """Each has its own time."""
        first = self.queue.join()
        self.clock.advance(6.0)
        second = self.queue.join()
        self.clock.advance(4.5)
        self.assertEqual(self.failureResultOf(first, Fatal).value.sqlstate, "53300")
        self.assertNoResult(second)
        self.clock.advance(6.0)
        self.failureResultOf(second, Fatal)
        self.assertEqual(len(self.queue), 0)

    def test_turned_away(self) -> None:
        """All are told the same."""
        places = [self.queue.join() for _ in range(3)]
        self.queue.turn_away(Fatal("08001", "why"))
        states = [self.failureResultOf(place, Fatal).value.sqlstate for place in places]
        self.assertEqual(states, ["08001"] * 3)

    def test_moved(self) -> None:
        """Elsewhere they wait in the same order, are served and given up, and time out there."""
        first, second, third = [self.queue.join() for _ in range(3)]
        there = self.make()
        self.queue.move(there.join)
        self.assertEqual((len(self.queue), len(there)), (0, 3))
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(len(there), 2)
        there.serve(ONE)
        self.assertEqual(self.successResultOf(second), ONE)
        self.clock.advance(11.0)
        self.failureResultOf(third, Fatal)
        self.assertEqual(self.queue._moved, {})

    def test_stop(self) -> None:
        """No timer is left."""
        self.queue.join().addErrback(lambda _: None)
        self.queue.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
