"""Tests for L{proxyd.wire.agent.distance}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.agent.distance import AGED, NEAR, PINGS, Distance


class DistanceTests(SynchronousTestCase):
    """How far away a peer is."""

    def setUp(self) -> None:
        self.distance = Distance()
        self.now = 0.0

    def measure(self, *taken: float) -> int:
        """Pings that take so long, the last of these for all that follow; how many there were."""
        word, count = self.distance.measure(self.now), 0
        while word:
            self.now += taken[min(count, len(taken) - 1)]
            count += 1
            ours, word = self.distance.answered(word, self.now)
            self.assertTrue(ours)
        return count

    def test_shortest(self) -> None:
        """It is measured several times, and one that was late by chance does not count."""
        self.assertFalse(self.distance.near)
        self.assertEqual(self.measure(0.1, NEAR / 2), PINGS)
        self.assertAlmostEqual(self.distance.shortest, NEAR / 2)
        self.assertTrue(self.distance.near)

    def test_longer_way(self) -> None:
        """A way that has become longer is known to be so in time, not at once."""
        self.measure(0.01)
        self.measure(0.1)
        self.assertAlmostEqual(self.distance.last, 0.1)
        self.assertAlmostEqual(self.distance.shortest, 0.01 * AGED)
        for _ in range(30):
            self.measure(0.1)
        self.assertAlmostEqual(self.distance.shortest, 0.1)

    def test_bulk_for_minutes(self) -> None:
        """A short way stays short, however late pings are behind bulk, and however often."""
        self.measure(NEAR / 2)
        for _ in range(100):
            self.measure(3 * NEAR)
        self.assertTrue(self.distance.near)
        self.assertAlmostEqual(self.distance.shortest, NEAR / 2)

    def test_not_ours(self) -> None:
        """An answer to nothing says nothing."""
        self.distance.measure(0.0)
        self.assertEqual(self.distance.answered(b"whatever", 1.0), (False, b""))
        self.assertEqual(self.distance.last, 0.0)
