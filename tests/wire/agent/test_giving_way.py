"""Tests for L{proxyd.wire.agent.giving_way}; tests/wire/agent/test_mux.py has it at work."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.agent.distance import NEAR, Distance
from proxyd.wire.agent.giving_way import A_SECOND, LITTLE, MEMORY, RATE, GivingWay
from proxyd.wire.agent.stream import Stream

KIB = 1024
MIB = 1024 * KIB
LEAST = 32 * KIB


class GivingWayTests(SynchronousTestCase):
    """Who gives way, and to whom."""

    def setUp(self) -> None:
        self.bulk = Stream(2, MIB, MIB, 0.0)
        self.typing = Stream(4, MIB, MIB, 0.0)
        self.give_way = self.over(0.0002)

    def over(self, seconds: float) -> GivingWay:
        """The same where a round trip takes so long."""
        distance = Distance()
        distance.answered(distance.measure(0.0), seconds)
        return GivingWay(LEAST, distance)

    def credited(self, count: int, now: float) -> int:
        """What the peer is told when so much of bulk was taken, a bit at a time."""
        step = 8 * KIB
        return sum(self.give_way.credit(self.bulk, step, now) for _ in range(count // step))

    def test_to_who_says_little(self) -> None:
        """A stream has little on its way meanwhile, and then as much as before."""
        self.give_way.heard(self.typing, 1, 1.0)
        self.assertEqual(self.credited(4 * MIB, 1.0), 3 * MIB + LEAST)
        self.assertEqual(self.bulk.window, LEAST)
        self.assertEqual(self.credited(MIB, 1.0 + MEMORY), 2 * MIB - LEAST)
        self.assertEqual((self.bulk.window, self.bulk.withheld), (MIB, 0))

    def test_not_to_who_has_left(self) -> None:
        """Who is gone types nothing more."""
        self.give_way.heard(self.typing, 1, 1.0)
        self.give_way.left(self.bulk)
        self.assertLess(self.credited(MIB, 1.0), MIB)
        self.give_way.left(self.typing)
        self.assertEqual(self.credited(MIB, 1.0), 2 * MIB - LEAST)

    def test_small_already(self) -> None:
        """A window that is small stays as it is."""
        self.bulk.window = LEAST // 2
        self.give_way.heard(self.typing, 1, 1.0)
        self.assertEqual(self.credited(MIB, 1.0), MIB)

    def test_not_to_itself(self) -> None:
        """A stream's own small pieces are no reason."""
        self.give_way.heard(self.bulk, 1, 1.0)
        self.assertEqual(self.credited(MIB, 1.0), MIB)

    def test_far(self) -> None:
        """Where the way is long, or nobody knows, a window is not for others' sake smaller."""
        for way in (self.over(NEAR), GivingWay(LEAST, Distance())):
            self.give_way = way
            self.give_way.heard(self.typing, 1, 1.0)
            self.assertEqual(self.credited(MIB, 1.0), MIB)

    def test_rate(self) -> None:
        """On a way that is less short, more is on it for the same rate."""
        self.give_way = self.over(0.9 * NEAR)
        self.give_way.heard(self.typing, 1, 1.0)
        self.credited(4 * MIB, 1.0)
        self.assertAlmostEqual(self.bulk.window, 0.9 * NEAR * RATE, delta=1)

    def test_not_to_bulk_in_small_pieces(self) -> None:
        """Who moves much is not waited for, however small the pieces are; until he moves little."""
        for _ in range(A_SECOND // KIB + 1):
            self.give_way.heard(self.typing, KIB, 1.0)
        self.assertEqual(self.credited(MIB, 1.0 + MEMORY), MIB)
        self.give_way.heard(self.typing, 1, 1.9 + MEMORY)
        self.assertEqual(self.credited(MIB, 1.9 + MEMORY), MIB)
        self.give_way.heard(self.typing, 1, 3.9 + MEMORY)
        self.assertLess(self.credited(MIB, 3.9 + MEMORY), MIB)

    def test_not_to_the_rest_of_something_large(self) -> None:
        """A small piece among large ones is bulk as well."""
        self.give_way.heard(self.typing, 64 * KIB, 1.0)
        self.give_way.heard(self.typing, LITTLE, 1.0)
        self.assertEqual(self.credited(MIB, 1.0), MIB)
