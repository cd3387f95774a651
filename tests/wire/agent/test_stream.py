"""Tests for L{proxyd.wire.agent.stream}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.agent.stream import EAGER, LEAST_WINDOW, USUAL, Stream


class StreamTests(SynchronousTestCase):
    """A stream begins with its window, and says nothing."""

    def test_new(self) -> None:
        """It may receive its window, and send what it was given."""
        stream = Stream(2, 1000, EAGER, 1.0)
        self.assertEqual((stream.allowed, stream.credit, stream.queued), (1000, EAGER, 0))
        self.assertFalse(stream.finishing or stream.finished or stream.over or stream.gone)

    def test_usual_limits(self) -> None:
        """What is usual fits together."""
        self.assertLess(EAGER, LEAST_WINDOW)
        self.assertLess(LEAST_WINDOW, USUAL.window)
        self.assertLess(USUAL.window, USUAL.most_window)
        self.assertLess(USUAL.most_window, USUAL.budget)
