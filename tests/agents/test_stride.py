"""Tests for L{proxyd.agents.stride}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.agents.stride import LEAST, MOST, Stride
from proxyd.config.times import AGENT_LINE_SLOW


class StrideTests(SynchronousTestCase):
    """Messages are as long as the line takes quickly."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.stride = Stride(self.clock)

    def lengths(self, seconds: float) -> list[int]:
        """What becomes of it where each message takes so long."""
        lengths = []
        for _ in range(8):
            self.stride.began()
            self.clock.advance(seconds)
            self.stride.ended()
            lengths.append(self.stride.length)
        return lengths

    def test_slow(self) -> None:
        """Shorter and shorter, down to the least; and long again when the line is quick."""
        self.assertEqual(self.stride.length, MOST)
        down = self.lengths(AGENT_LINE_SLOW * 2)
        self.assertEqual(down, sorted(down, reverse=True))
        self.assertEqual(down[-1], LEAST)
        up = self.lengths(AGENT_LINE_SLOW / 10)
        self.assertEqual(up, sorted(up))
        self.assertEqual(up[-1], MOST)

    def test_between(self) -> None:
        """A line that is neither changes nothing; nor does an end without a beginning."""
        self.lengths(AGENT_LINE_SLOW * 2)
        self.assertEqual(self.lengths(AGENT_LINE_SLOW / 2), [LEAST] * 8)
        self.stride.ended()
        self.assertEqual(self.stride.length, LEAST)
