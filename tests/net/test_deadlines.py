"""Tests for L{proxyd.net.deadlines}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.deadlines import Deadlines


class DeadlinesTests(SynchronousTestCase):
    """Each item has the same time, and one timed call serves them all."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.over: list[str] = []
        self.queue: Deadlines[str] = Deadlines(self.clock, 10.0, self.over.append)

    def test_expires(self) -> None:
        """An item is told once, when its own time is over; no timed call is left after the last."""
        self.queue.add("a")
        self.clock.advance(4)
        self.queue.add("b")
        self.assertEqual(
            (len(self.queue), self.queue.oldest, list(self.queue)), (2, "a", ["a", "b"])
        )
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(5.9)
        self.assertEqual(self.over, [])
        self.clock.advance(0.2)
        self.assertEqual(self.over, ["a"])
        self.assertNotIn("a", self.queue)
        self.clock.advance(4)
        self.assertEqual(self.over, ["a", "b"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """When the clock jumps, all whose time is over are told, oldest first."""
        for item in "abc":
            self.queue.add(item)
            self.clock.advance(1)
        self.clock.advance(100)
        self.assertEqual(self.over, ["a", "b", "c"])

    def test_discard(self) -> None:
        """A forgotten item is not told; to forget what is not there does nothing."""
        self.queue.add("a")
        self.queue.add("b")
        self.queue.discard("a")
        self.queue.discard("never")
        self.assertEqual(self.queue.oldest, "b")
        self.clock.advance(10)
        self.assertEqual(self.over, ["b"])

    def test_again_after_discard(self) -> None:
        """An item added anew has its whole time."""
        self.queue.add("a")
        self.clock.advance(9)
        self.queue.discard("a")
        self.queue.add("a")
        self.clock.advance(9)
        self.assertEqual(self.over, [])
        self.clock.advance(1)
        self.assertEqual(self.over, ["a"])

    def test_stop(self) -> None:
        """After a stop nobody is told, and nothing waits."""
        self.queue.add("a")
        self.queue.stop()
        self.queue.stop()
        self.assertEqual((len(self.queue), self.queue.oldest), (0, None))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_added_while_expiring(self) -> None:
        """What is added as another one expires delays none that came before it."""
        told: list[tuple[float, str]] = []

        def expired(item: str) -> None:
            told.append((self.clock.seconds(), item))
            if item == "a":
                queue.add("c")

        queue: Deadlines[str] = Deadlines(self.clock, 10.0, expired)
        queue.add("a")
        self.clock.advance(2)
        queue.add("b")
        for _ in range(20):
            self.clock.advance(1)
        self.assertEqual(told, [(10.0, "a"), (12.0, "b"), (20.0, "c")])

    def test_discarded_while_expiring(self) -> None:
        """Who takes others along as it expires has them forgotten."""
        queue: Deadlines[str] = Deadlines(
            self.clock, 1.0, lambda item: (self.over.append(item), queue.discard("b"))
        )
        queue.add("a")
        queue.add("b")
        self.clock.advance(1)
        self.assertEqual(self.over, ["a"])

    def test_stopped_while_expiring(self) -> None:
        """A stop from within is a stop."""
        queue: Deadlines[str] = Deadlines(
            self.clock, 1.0, lambda item: (self.over.append(item), queue.stop())
        )
        queue.add("a")
        queue.add("b")
        self.clock.advance(1)
        self.assertEqual((self.over, self.clock.getDelayedCalls()), (["a"], []))

    def test_exception(self) -> None:
        """One item whose end fails takes no time from the others."""

        def expired(item: str) -> None:
            self.over.append(item)
            if item == "a":
                raise ValueError(item)

        queue: Deadlines[str] = Deadlines(self.clock, 1.0, expired)
        queue.add("a")
        queue.add("b")
        self.assertRaises(ValueError, self.clock.advance, 1)
        self.clock.advance(0)
        self.assertEqual(self.over, ["a", "b"])
