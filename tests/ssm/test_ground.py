"""Tests for L{proxyd.ssm.ground}."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from proxyd.config.times import SsmTimes
from proxyd.ssm.ground import Ground


class GroundTests(TestCase):
    """What sessions stand on."""

    def test_ids(self) -> None:
        """Ids have 16 bytes, and no two are the same, on one ground or on two."""
        nothing: Any = None
        grounds = [Ground(nothing, nothing, nothing, SsmTimes(), 0.0) for _ in range(2)]
        ids = [ground.new_id() for ground in grounds for _ in range(1000)]
        self.assertEqual({len(one) for one in ids}, {16})
        self.assertEqual(len(set(ids)), 2000)
