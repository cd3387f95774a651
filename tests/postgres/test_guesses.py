"""Tests for L{proxyd.postgres.guesses}."""

from __future__ import annotations

from ipaddress import ip_address

from twisted.trial.unittest import SynchronousTestCase

from proxyd.postgres import guesses
from proxyd.postgres.guesses import FREE, LONGEST, RATE, Guesses, place_of


class GuessesTests(SynchronousTestCase):
    """Who sends wrong keys waits."""

    def setUp(self) -> None:
        self.guesses = Guesses()

    def guess(self, place: str, times: int, now: float = 0.0) -> list[bool]:
        """Send wrong keys that nobody waited for."""
        return [self.guesses.note(place, now) for _ in range(times)]

    def test_mistakes(self) -> None:
        """A few wrong keys cost nothing; from the last free one on there is a wait, told once."""
        told = self.guess("a", FREE - 1)
        self.assertEqual(self.guesses.wait("a", 0.0), 0.0)
        told += self.guess("a", 20)
        self.assertEqual(told, [False] * (FREE - 1) + [True] + [False] * 19)
        self.assertEqual(self.guesses.wait("a", 0.0), 1 / RATE)
        self.assertEqual(self.guesses.wrong, FREE + 19)

    def test_of_another_node(self) -> None:
        """A key that nobody here can judge counts like a wrong one, and is not called one."""
        told = [self.guesses.note("a", 0.0, known=False) for _ in range(FREE)]
        self.assertEqual(told, [False] * (FREE - 1) + [True])
        self.assertEqual(self.guesses.wait("a", 0.0), 1 / RATE)
        self.assertEqual(self.guesses.wrong, 0)

    def test_one_after_the_other(self) -> None:
        """However many come at once, so many a second are looked at, and the rest not at all."""
        self.guess("a", FREE * 10)
        waits = [self.guesses.wait("a", 1.0) for _ in range(200)]
        looked = [wait for wait in waits if wait is not None]
        self.assertEqual(len(looked), int(LONGEST * RATE))
        for number, wait in enumerate(looked):
            self.assertAlmostEqual(wait, (number + 1) / RATE)
        self.assertEqual(self.guesses.dropped, 200 - len(looked))

    def test_guessing_rate(self) -> None:
        """Whoever guesses all day gets no more looked at than the rate, and the free ones."""
        looked, now = 0, 0.0
        due: list[float] = []
        while now < 600:
            for _ in range(10):
                wait = self.guesses.wait("a", now)
                if wait is not None:
                    due.append(now + wait)
            for _ in [turn for turn in due if turn <= now]:
                looked += 1
                self.guesses.note("a", now)
            due = [turn for turn in due if turn > now]
            now += 0.05
        self.assertLess(looked, 600 * RATE + 2 * FREE)

    def test_forgiven(self) -> None:
        """Time forgives, within a minute or so everything."""
        self.guess("a", 100_000)
        self.assertNotEqual(self.guesses.wait("a", 50.0), 0.0)
        self.assertEqual(self.guesses.wait("a", 70.0), 0.0)

    def test_others(self) -> None:
        """Nobody waits for what others do."""
        self.guess("a", 1000)
        self.assertEqual(self.guesses.wait("b", 0.0), 0.0)

    def test_bounded(self) -> None:
        """The memory of places has a limit; who is in it longest is forgotten."""
        self.patch(guesses, "_REMEMBERED", 10)
        self.guess("first", 1000)
        for number in range(10):
            self.guess(str(number), 1)
        self.assertEqual(len(self.guesses._places), 10)
        self.assertEqual(self.guesses.wait("first", 0.0), 0.0)

    def test_places(self) -> None:
        """IPv4 by address, IPv6 by network, UNIX sockets are one."""
        here, there = ip_address("2001:db8::1"), ip_address("2001:db8::ffff:1")
        self.assertEqual(place_of(here), place_of(there))
        self.assertNotEqual(place_of(here), place_of(ip_address("2001:db8:0:1::1")))
        self.assertNotEqual(place_of(ip_address("10.0.0.1")), place_of(ip_address("10.0.0.2")))
        self.assertEqual(place_of(None), "unix")
