"""Tests for L{proxyd.ssm.ground}."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.times import SsmTimes
from proxyd.ssm.ground import Ground, Unended


class GroundTests(SynchronousTestCase):
    """What sessions stand on."""

    def test_ids(self) -> None:
        """Ids have 16 bytes, and no two are the same, on one ground or on two."""
        nothing: Any = None
        grounds = [Ground(nothing, nothing, nothing, SsmTimes(), 0.0) for _ in range(2)]
        ids = [ground.new_id() for ground in grounds for _ in range(1000)]
        self.assertEqual({len(one) for one in ids}, {16})
        self.assertEqual(len(set(ids)), 2000)

    def test_unended(self) -> None:
        """Whoever waits is told when the last one is over; at once where there is none."""
        unended = Unended()
        self.successResultOf(unended.none_left())
        unended.begin()
        unended.begin()
        waiting = unended.none_left()
        unended.end()
        self.assertEqual(len(unended), 1)
        self.assertNoResult(waiting)
        unended.end()
        self.successResultOf(waiting)
