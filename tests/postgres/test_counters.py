"""Tests for L{proxyd.postgres.counters}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.postgres.counters import Counters


class CountersTests(SynchronousTestCase):
    """What a pool counts."""

    def test_by_name(self) -> None:
        """All counters begin at nought and are had by the names that the status uses."""
        counters = Counters()
        self.assertEqual(set(counters.as_dict().values()), {0})
        counters.acquire_count += 2
        counters.max_lifetime_closed += 1
        found = counters.as_dict()
        self.assertEqual((found["acquire_count"], found["max_lifetime_closed"]), (2, 1))

    def test_added(self) -> None:
        """The counters of a pool that is gone go on in a sum."""
        total, one = Counters(opened=3), Counters(opened=2, lost=1)
        total.add(one)
        self.assertEqual((total.opened, total.lost, one.opened), (5, 1, 2))
