"""
Tests of L{proxyd.auth.tokens}.
"""

from __future__ import annotations

import base64
import json

from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from proxyd.auth.issued import OwnSecret
from proxyd.auth.tokens import Tokens
from proxyd.config.token_settings import Issuer, TokenSettings
from proxyd.interfaces import IRevocable, ITokens
from proxyd.records import Conflict, Grant, Invalid, Refusal, TokenRefused, Unknown
from proxyd.store.memory import MemoryStore

NOW = 1_700_000_000
SECRET = b"a secret of thirty-two bytes or more"


@implementer(IRevocable)
class Session:
    """A live session that writes down why it was ended."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def revoke(self, reason: str) -> None:
        """It is to end."""
        self.reasons.append(reason)


ISSUER = Issuer("https://id.example", ("proxyd",), "https://id.example/keys")


class TokensTests(SynchronousTestCase):
    """Tokens of our own secret."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = MemoryStore()
        self.successResultOf(self.store.open())
        self.tokens = Tokens(
            self.clock, self.store, OwnSecret(SECRET), TokenSettings(), lambda: ["orders"]
        )
        self.successResultOf(self.tokens.load())
        self.tokens.startService()
        self.addCleanup(self.tokens.stopService)

    def refused(self, token: bytes) -> Refusal:
        """Why a token is refused."""
        failure = self.failureResultOf(self.tokens.check(token), TokenRefused)
        refusal: Refusal = failure.value.refusal
        return refusal

    def test_interface(self) -> None:
        """It is what the PostgreSQL room asks for."""
        verifyObject(ITokens, self.tokens)

    def test_issue(self) -> None:
        """A token says what it is for, is good, and only its hash is kept."""
        issued = self.successResultOf(self.tokens.issue("orders", 60, "ci"))
        self.assertEqual(
            issued.connection_string, f"postgresql://token:{issued.token}@127.0.0.1:6432/orders"
        )
        payload = issued.token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        self.assertEqual(
            claims,
            {
                "database_id": "orders",
                "token_id": issued.token_id,
                "type": "database_access",
                "iat": NOW,
                "exp": NOW + 60,
            },
        )
        grant = self.successResultOf(self.tokens.check(issued.token.encode()))
        self.assertEqual(
            (grant.token_id, grant.database_id, grant.expires_at),
            (issued.token_id, "orders", NOW + 60),
        )
        [record] = self.successResultOf(self.tokens.listed("orders"))
        self.assertNotIn(issued.token, repr(record))
        self.assertNotIn(issued.token, repr(issued))
        self.assertEqual((record.label, len(record.digest)), ("ci", 32))

    def test_default_life(self) -> None:
        """Two years, of a registered database."""
        shop = self.successResultOf(self.store.add_database("shop", "d", b"", NOW))
        issued = self.successResultOf(self.tokens.issue(shop.database_id))
        self.assertEqual(issued.expires_at, NOW + 730 * 86400)
        self.assertTrue(issued.connection_string.endswith(f"/db_{shop.database_id}"))

    def test_nothing_to_issue_for(self) -> None:
        """No such database, connection, time or label: no token."""
        self.failureResultOf(self.tokens.issue(7), Unknown)
        self.failureResultOf(self.tokens.issue("nowhere"), Unknown)
        for ttl in (0, -1, 1e12, float("nan")):
            self.failureResultOf(self.tokens.issue("orders", ttl), Invalid)
        self.failureResultOf(self.tokens.issue("orders", label="x" * 201), Invalid)
        self.failureResultOf(self.tokens.issue("orders", roles=[""]), Invalid)

    def test_not_before(self) -> None:
        """A token made elsewhere may say from when on it is good (RFC 7519, section 4.1.5)."""
        claims = {
            "database_id": "orders",
            "token_id": "later",
            "type": "database_access",
            "nbf": NOW + 100,
            "exp": NOW + 200,
        }
        token = OwnSecret(SECRET).sign(claims)
        self.successResultOf(self.tokens.register(token))
        self.assertEqual(self.refused(token.encode()), Refusal.BAD)
        self.clock.advance(100)
        self.successResultOf(self.tokens.check(token.encode()))

    def test_register(self) -> None:
        """A token made elsewhere with our secret is good once it was registered."""
        claims = {
            "database_id": "orders",
            "token_id": "mine",
            "type": "database_access",
            "exp": NOW + 60,
        }
        token = OwnSecret(SECRET).sign(claims)
        self.assertEqual(self.refused(token.encode()), Refusal.UNKNOWN)
        self.successResultOf(self.tokens.register(token))
        self.successResultOf(self.tokens.check(token.encode()))
        self.failureResultOf(self.tokens.register(token), Conflict)
        self.failureResultOf(self.tokens.register("nonsense"), Invalid)
        stranger = OwnSecret(b"another secret of thirty-two bytes").sign(claims)
        self.failureResultOf(self.tokens.register(stranger), Invalid)
        old = OwnSecret(SECRET).sign({**claims, "exp": NOW, "token_id": "x"})
        self.failureResultOf(self.tokens.register(old), Invalid)

    def test_same_id_other_token(self) -> None:
        """A second token that claims a known id is not the token that was registered."""
        issued = self.successResultOf(self.tokens.issue("orders", 60))
        claims = {
            "database_id": "orders",
            "token_id": issued.token_id,
            "type": "database_access",
            "exp": NOW + 9999,
        }
        forged = OwnSecret(SECRET).sign(claims)
        self.assertEqual(self.refused(forged.encode()), Refusal.UNKNOWN)

    def test_previous_secret(self) -> None:
        """After a rotation tokens of the previous secret are still good."""
        issued = self.successResultOf(self.tokens.issue("orders"))
        rotated = Tokens(
            self.clock,
            self.store,
            OwnSecret(b"n" * 32, [SECRET]),
            TokenSettings(),
            lambda: ["orders"],
        )
        self.successResultOf(rotated.load())
        self.successResultOf(rotated.check(issued.token.encode()))

    def test_revoke_ends_sessions(self) -> None:
        """Revoking ends the token's sessions, no others, and lets nobody in any more."""
        one = self.successResultOf(self.tokens.issue("orders"))
        two = self.successResultOf(self.tokens.issue("orders"))
        grants = [self.successResultOf(self.tokens.check(t.token.encode())) for t in (one, two)]
        sessions = [Session(), Session()]
        for grant, session in zip(grants, sessions, strict=True):
            self.tokens.attach(grant, session)
        self.successResultOf(self.tokens.revoke(one.token_id))
        self.assertEqual([s.reasons for s in sessions], [["its token was revoked"], []])
        self.assertEqual(self.refused(one.token.encode()), Refusal.REVOKED)
        self.assertRaises(TokenRefused, self.tokens.attach, grants[0], Session())
        self.failureResultOf(self.tokens.revoke("unknown"), Unknown)

    def test_expiry_ends_sessions(self) -> None:
        """A token's end is its sessions' end, to the moment; those that left are left alone."""
        issued = self.successResultOf(self.tokens.issue("orders", 60))
        grant = self.successResultOf(self.tokens.check(issued.token.encode()))
        here, left = Session(), Session()
        self.tokens.attach(grant, here)
        self.tokens.attach(grant, left)
        self.tokens.detach(grant, left)
        self.clock.advance(59.9)
        self.assertEqual(here.reasons, [])
        self.clock.advance(0.2)
        self.assertEqual((here.reasons, left.reasons), (["its token expired"], []))
        self.assertEqual(self.refused(issued.token.encode()), Refusal.EXPIRED)

    def test_removed_database(self) -> None:
        """With its database a token dies, and its sessions."""
        shop = self.successResultOf(self.store.add_database("shop", "d", b"", NOW))
        issued = self.successResultOf(self.tokens.issue(shop.database_id))
        grant = self.successResultOf(self.tokens.check(issued.token.encode()))
        session = Session()
        self.tokens.attach(grant, session)
        self.successResultOf(self.store.remove_database(shop.database_id))
        self.assertEqual(len(session.reasons), 1)
        self.assertEqual(self.refused(issued.token.encode()), Refusal.UNKNOWN)
        self.assertRaises(TokenRefused, self.tokens.attach, grant, session)

    def test_cleanup_in_vain(self) -> None:
        """A store that does not answer is told of, and asked again an hour later."""
        issued = self.successResultOf(self.tokens.issue("orders", 60))
        self.successResultOf(self.store.close())
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.clock.advance(3600)
        [line] = [formatEvent(event) for event in events if event["log_level"] == LogLevel.warn]
        self.assertEqual(line, "expired tokens could not be forgotten: the store is closed")
        self.successResultOf(self.store.open())
        self.assertEqual(self.successResultOf(self.tokens.listed())[0].token_id, issued.token_id)
        self.clock.advance(3600)
        self.assertEqual(self.successResultOf(self.tokens.listed()), [])

    def test_cleanup(self) -> None:
        """Expired tokens are forgotten every hour; whoever has one is still told why."""
        issued = self.successResultOf(self.tokens.issue("orders", 60))
        self.clock.advance(61)
        self.assertEqual(len(self.successResultOf(self.tokens.listed())), 1)
        self.clock.advance(3600)
        self.assertEqual(self.successResultOf(self.tokens.listed()), [])
        self.assertEqual(self.successResultOf(self.tokens.cleanup()), 0)
        self.assertIs(self.refused(issued.token.encode()), Refusal.EXPIRED)

    def test_revoke_of_an_issuer(self) -> None:
        """An issuer's token is revoked by its jti, though nobody has seen it."""
        self.tokens.settings = TokenSettings(issuers=(ISSUER,))
        record = self.successResultOf(self.tokens.revoke("jti-1", "https://id.example"))
        self.assertEqual(record.key, ("https://id.example", "jti-1"))
        self.successResultOf(self.tokens.revoke("jti-1", "https://id.example"))
        self.assertEqual(len(self.successResultOf(self.tokens.listed())), 1)

    def test_revoke_of_nobody(self) -> None:
        """One whose issuer is mistyped would be revoked in vain: that is told."""
        self.tokens.settings = TokenSettings(issuers=(ISSUER,))
        for issuer in ("https://id.example/", "id.example", "https://ID.example"):
            self.failureResultOf(self.tokens.revoke("jti-1", issuer), Unknown)
        self.assertEqual(self.successResultOf(self.tokens.listed()), [])
        # Whoever came by an issuer that is believed no more can still be sent away.
        session = Session()
        self.tokens.attach(Grant("jti-2", "https://old.example", "orders", NOW + 60), session)
        self.successResultOf(self.tokens.revoke("jti-2", "https://old.example"))
        self.assertEqual(session.reasons, ["its token was revoked"])
