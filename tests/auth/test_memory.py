"""
Tests of L{proxyd.auth.memory}.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from proxyd.auth.memory import TokenMemory
from proxyd.interfaces import IRevocable
from proxyd.records import Change, Grant, Kind, Refusal, TokenRecord, TokenRefused


@implementer(IRevocable)
class Session:
    """A live session; C{broken} when it can't be ended."""

    def __init__(self, broken: bool = False) -> None:
        self.ended = 0
        self.broken = broken

    def revoke(self, reason: str) -> None:
        """It is to end."""
        self.ended += 1
        if self.broken:
            raise RuntimeError("on purpose")


def record(name: str, issuer: str = "") -> TokenRecord:
    """A token that is good for 100 seconds."""
    return TokenRecord(name, issuer, name.encode(), "db", "", 0, 100)


class MemoryTests(SynchronousTestCase):
    """Known tokens, and their sessions."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.memory = TokenMemory(self.clock)
        self.addCleanup(self.memory.stop)

    def attach(self, name: str, until: float, session: Session, issuer: str = "") -> Grant:
        """A session begins."""
        grant = Grant(name, issuer, "db", until)
        self.memory.attach(grant, session)
        return grant

    def test_replace(self) -> None:
        """Sessions of tokens that are known no more, or revoked meanwhile, end."""
        self.memory.replace([record("a"), record("b"), record("c")])
        sessions = {name: Session() for name in "abc"}
        for name, session in sessions.items():
            self.attach(name, 100, session)
        self.memory.replace([record("a"), replace(record("b"), revoked_at=1)])
        self.assertEqual([one.ended for one in sessions.values()], [0, 1, 1])
        self.assertIsNone(self.memory.by_digest(b"c"))
        self.assertEqual(self.memory.by_digest(b"a"), record("a"))
        self.assertEqual(len(self.memory), 2)

    def test_one_timer(self) -> None:
        """However many sessions there are, one timed call waits for the first end."""
        self.memory.replace([record(str(n)) for n in range(100)])
        sessions = [Session() for _ in range(100)]
        for number, session in enumerate(sessions):
            self.attach(str(number), 1000 - number, session)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(950)
        self.assertEqual([one.ended for one in sessions], [0] * 50 + [1] * 50)

    def test_logins_cost_no_memory(self) -> None:
        """A token that comes and goes a thousand times is awaited once."""
        self.memory.replace([record("a")])
        for _ in range(1000):
            session = Session()
            self.memory.detach(self.attach("a", 100, session), session)
        self.assertEqual(len(self.memory._ends), 1)
        self.assertEqual(self.memory.live(), 0)

    def test_new_tokens_cost_no_memory(self) -> None:
        """Nor do thousands of an issuer's tokens, each used once; who is in still ends in time."""
        first, long = Session(), Session()
        self.attach("first", 1, first, "i")
        self.attach("long", 9000, long, "i")
        most = 0
        for number in range(10_000):
            session = Session()
            grant = self.attach(str(number), 10_000 + number, session, "i")
            self.memory.detach(grant, session)
            most = max(most, len(self.memory._ends), len(self.memory._awaited))
        self.assertLess(most, 2000)
        for now, ended in ((1, [1, 0]), (8999, [1, 0]), (9000, [1, 1])):
            self.clock.advance(now - self.clock.seconds())
            self.assertEqual([first.ended, long.ended], ended)
        self.assertEqual(len(self.clock.getDelayedCalls()), 0)

    def test_each_by_its_own_end(self) -> None:
        """An issuer's tokens of one jti may end at different times."""
        short, long = Session(), Session()
        self.attach("j", 10, short, "issuer")
        self.attach("j", 20, long, "issuer")
        self.clock.advance(15)
        self.assertEqual((short.ended, long.ended), (1, 0))

    def test_beyond_the_longest_wait(self) -> None:
        """An end in two years is waited for in steps."""
        session = Session()
        self.attach("j", 150, session, "issuer")
        self.clock.pump([60, 60, 29])
        self.assertEqual(session.ended, 0)
        self.clock.advance(1)
        self.assertEqual(session.ended, 1)

    def test_trouble_of_one(self) -> None:
        """A session that can't be ended keeps no other alive; the log has it."""
        self.memory.replace([record("a")])
        sessions = [Session(broken=True), Session()]
        for session in sessions:
            self.attach("a", 100, session)
        self.memory.changed(Change(Kind.TOKEN, ("", "a"), None))
        self.assertEqual([one.ended for one in sessions], [1, 1])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_late(self) -> None:
        """A session whose token was revoked while it logged in does not begin."""
        self.memory.replace([replace(record("a"), revoked_at=1)])
        with self.assertRaises(TokenRefused) as caught:
            self.attach("a", 100, Session())
        self.assertEqual(caught.exception.refusal, Refusal.REVOKED)
        with self.assertRaises(TokenRefused):
            self.attach("unknown", 100, Session())
        with self.assertRaises(TokenRefused) as caught:
            self.attach("j", 0, Session(), "issuer")
        self.assertEqual(caught.exception.refusal, Refusal.EXPIRED)

    def test_end_all(self) -> None:
        """All can be ended at once."""
        sessions = [Session(), Session()]
        for number, session in enumerate(sessions):
            self.attach(str(number), 100, session, "issuer")
        self.memory.end_all("why")
        self.assertEqual([one.ended for one in sessions], [1, 1])
