"""Tests for L{proxyd.socks.allowances}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.rules.routes import NO_LIMITS, Limits
from proxyd.socks.allowances import Allowances, rates_of
from proxyd.socks.replies import Refused


class AllowanceTests(SynchronousTestCase):
    """Who has how much."""

    def setUp(self) -> None:
        self.allowances = Allowances(Clock())

    def test_connections(self) -> None:
        """No more than there may be at a time; all are counted."""
        ann = self.allowances.of("user ann", Limits(connections=2))
        ann.take()
        ann.take()
        refused = self.assertRaises(Refused, ann.take)
        self.assertEqual(str(refused), "user ann has 2 connections, all it may")
        ann.give_back(10, 20)
        ann.take()
        self.assertEqual((ann.open, ann.opened, ann.refused), (2, 3, 1))
        self.assertEqual((ann.up, ann.down), (10, 20))

    def test_same(self) -> None:
        """A name has one allowance, whose limits may change; what it has stays."""
        one = self.allowances.of("a", NO_LIMITS)
        one.take()
        self.assertEqual(rates_of([one], 0), [])
        self.assertIs(self.allowances.of("a", Limits(5, 1000)), one)
        self.assertEqual((one.open, one.limits.connections), (1, 5))
        self.assertEqual(len(rates_of([one], 0)), 1)
        self.assertIsNot(rates_of([one], 0)[0], rates_of([one], 1)[0])
        self.assertEqual([found.name for found in self.allowances.all()], ["a"])
