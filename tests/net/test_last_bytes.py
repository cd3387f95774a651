"""Tests for L{proxyd.net.last_bytes}; the streams that have it are tested with theirs."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.last_bytes import LastBytes


class LastBytesTests(SynchronousTestCase):
    """Who is waited for, and who is given up."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sent = {"a": 0, "b": 0}
        self.given_up: list[str] = []
        self.last: LastBytes[str] = LastBytes(
            self.clock, self.sent.__getitem__, self.given_up.append, 10.0
        )

    def test_stuck(self) -> None:
        """One that takes nothing is given up, once, and forgotten."""
        self.last.wait("a")
        self.clock.advance(9)
        self.assertEqual((self.given_up, len(self.last)), ([], 1))
        self.clock.advance(2)
        self.assertEqual((self.given_up, len(self.last)), (["a"], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow(self) -> None:
        """One that takes something in each span is waited for, then given up as any other."""
        self.last.wait("a")
        self.last.wait("b")
        for _ in range(10):
            self.clock.advance(9)
            self.sent["a"] += 1
            self.last.wait("a")  # twice is once
            self.clock.advance(1)
        self.assertEqual(self.given_up, ["b"])
        self.clock.advance(10)
        self.assertEqual(self.given_up, ["b", "a"])

    def test_ended(self) -> None:
        """One that has ended is of no interest, nor is one that never waited."""
        self.last.wait("a")
        self.last.forget("a")
        self.last.forget("b")
        self.clock.advance(20)
        self.assertEqual((self.given_up, len(self.last)), ([], 0))

    def test_stop(self) -> None:
        """No timed call is left."""
        self.last.wait("a")
        self.last.stop()
        self.assertEqual((self.clock.getDelayedCalls(), len(self.last)), ([], 0))
