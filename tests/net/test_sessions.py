"""Tests for L{proxyd.net.sessions}: sessions of all kinds in one list."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.sessions import Session, Sessions
from proxyd.target import Principal


class Kind:
    """Sessions of one kind; those that were killed are gone."""

    def __init__(self, kind: str, *numbers: int) -> None:
        self.kind = kind
        self.killed: list[tuple[int, str]] = []
        self._numbers = list(numbers)

    def count(self) -> int:
        """How many are left."""
        return len(self._numbers)

    def live(self) -> Iterator[Session]:
        """Those that are left."""
        for number in self._numbers:
            yield Session(
                number,
                self.kind,
                Principal("ann", "192.0.2.7:5"),
                "shop",
                "idle",
                None,
                1,
                2,
                3.0,
                lambda reason, number=number: self._kill(number, reason),  # type: ignore[misc]
            )

    def _kill(self, number: int, reason: str) -> None:
        self._numbers.remove(number)
        self.killed.append((number, reason))


class SessionsTests(SynchronousTestCase):
    """One list, one numbering, one way to end a session."""

    def setUp(self) -> None:
        self.postgres, self.socks = Kind("postgres", 1, 4), Kind("socks5", 2)
        self.sessions = Sessions()
        self.sessions.add(self.postgres)
        self.sessions.add(self.socks)

    def test_all_kinds_in_order(self) -> None:
        """All kinds stand in one list, oldest first."""
        found = [(one.number, one.kind) for one in self.sessions]
        self.assertEqual(found, [(1, "postgres"), (2, "socks5"), (4, "postgres")])

    def test_in_steps(self) -> None:
        """One that ends while the list is read is no trouble."""
        reading = self.sessions.as_they_are()
        self.assertEqual(next(reading).number, 1)
        found = self.sessions.find(2)
        assert found is not None
        found.kill("enough")
        self.assertNotIn(2, [session.number for session in reading])

    def test_counts(self) -> None:
        """Each kind is counted, one without sessions too."""
        self.sessions.add(Kind("agent"))
        self.assertEqual(self.sessions.counts(), {"postgres": 2, "socks5": 1, "agent": 0})

    def test_killed(self) -> None:
        """The session of a number is found and ended; then there is none of that number."""
        found = self.sessions.find(2)
        assert found is not None
        found.kill("enough")
        self.assertEqual(self.socks.killed, [(2, "enough")])
        self.assertEqual(self.postgres.killed, [])
        self.assertIsNone(self.sessions.find(2))

    def test_numbers_are_used_once(self) -> None:
        """Kinds share one numbering, so that a number names one session."""
        self.assertEqual([self.sessions.next_number() for _ in range(3)], [1, 2, 3])
