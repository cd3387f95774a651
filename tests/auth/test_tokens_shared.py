"""
Tests of L{proxyd.auth.tokens} on a store that other nodes share: late news, and silence.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.issued import OwnSecret
from proxyd.auth.tokens import Tokens
from proxyd.config.token_settings import TokenSettings
from proxyd.records import Change, Grant, Kind, Refusal, StoreLost, TokenRefused
from proxyd.store.memory import MemoryStore
from tests.auth.test_tokens import NOW, SECRET, Session


class SharedStore(MemoryStore):
    """
    A store that others write to.

    @ivar silence: for how many seconds it has not been heard of
    @ivar deaf: whether changes are not told
    """

    shared = True
    silence = 0.0
    deaf = False

    def silent_for(self) -> float:
        """As the test says."""
        return self.silence

    def _tell(self, change: Change) -> None:
        if not self.deaf:
            super()._tell(change)


class SharedTests(SynchronousTestCase):
    """One node among others."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = SharedStore()
        self.successResultOf(self.store.open())

    def node(self, when_store_lost: str = "refuse_new") -> Tokens:
        """A node that is up."""
        settings = TokenSettings(when_store_lost=when_store_lost)
        node = Tokens(self.clock, self.store, OwnSecret(SECRET), settings, lambda: ["shop"])
        self.successResultOf(node.load())
        node.startService()
        self.addCleanup(node.stopService)
        return node

    def begun(self, node: Tokens) -> tuple[bytes, Grant, Session]:
        """A session that came by a token."""
        token = self.successResultOf(node.issue("shop")).token.encode()
        grant = self.successResultOf(node.check(token))
        session = Session()
        node.attach(grant, session)
        return token, grant, session

    def refused(self, node: Tokens, token: bytes) -> Refusal:
        """Why a token does not let in."""
        refusal: Refusal = self.failureResultOf(node.check(token), TokenRefused).value.refusal
        return refusal

    def test_asked_for(self) -> None:
        """A token that another node has just issued is good before this one has heard of it."""
        first, second = self.node(), self.node()
        self.store.deaf = True
        token = self.successResultOf(first.issue("shop")).token.encode()
        self.successResultOf(second.check(token))

    def test_revoked_elsewhere(self) -> None:
        """What another node revokes ends the sessions here."""
        first, second = self.node(), self.node()
        token, grant, session = self.begun(first)
        self.successResultOf(second.revoke(grant.token_id))
        self.assertEqual(len(session.reasons), 1)
        self.assertIs(self.refused(first, token), Refusal.REVOKED)

    def test_missed(self) -> None:
        """What was missed is read again as a whole; sessions of what was revoked end then."""
        first, second = self.node(), self.node()
        _, grant, session = self.begun(first)
        self.store.deaf = True
        self.successResultOf(second.revoke(grant.token_id))
        self.assertEqual(session.reasons, [])
        self.store.deaf = False
        self.store._tell(Change(Kind.ALL, 0, None))
        self.assertEqual(session.reasons, ["its token was revoked"])

    def test_missed_and_not_read(self) -> None:
        """Who can't read what was missed says so, and the store tells of it again."""
        node = self.node()
        self.successResultOf(self.store.close())
        told = node._changed(Change(Kind.ALL, 0, None))
        assert told is not None
        self.failureResultOf(told, StoreLost)

    def silent(self, seconds: float) -> None:
        """The store has been silent for so long."""
        self.store.silence = seconds
        self.clock.advance(1)

    def test_refuse_new(self) -> None:
        """After max_staleness nobody new comes in, and who is in stays; then all is well again."""
        node = self.node()
        token, _, session = self.begun(node)
        self.silent(4.9)
        self.successResultOf(node.check(token))
        self.silent(5.1)
        self.assertIs(self.refused(node, token), Refusal.STORE_LOST)
        self.assertEqual(session.reasons, [])
        self.silent(0)
        self.successResultOf(node.check(token))

    def test_end_sessions(self) -> None:
        """Those that are in end, once; after the silence new ones come in and stay."""
        node = self.node("end_sessions")
        token, grant, session = self.begun(node)
        self.silent(5.1)
        self.assertEqual(session.reasons, ["the state store is silent"])
        node.detach(grant, session)
        self.assertIs(self.refused(node, token), Refusal.STORE_LOST)
        self.silent(0)
        again = Session()
        node.attach(self.successResultOf(node.check(token)), again)
        self.clock.advance(10)
        self.assertEqual(again.reasons, [])
        self.silent(60)
        self.assertEqual(len(again.reasons), 1)

    def test_keep(self) -> None:
        """What was known goes on; its end is still its end."""
        node = self.node("keep")
        token, grant, session = self.begun(node)
        self.silent(3600)
        self.successResultOf(node.check(token))
        short = Session()
        node.attach(replace(grant, expires_at=self.clock.seconds() + 5), short)
        self.clock.advance(6)
        self.assertEqual((session.reasons, short.reasons), ([], ["its token expired"]))
