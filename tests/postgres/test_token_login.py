"""
Tests of L{proxyd.postgres.token_login}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.model import Connection, Dsn
from proxyd.postgres.admission import Admission
from proxyd.postgres.answers import Fatal
from proxyd.postgres.directory import Place
from proxyd.postgres.token_login import TokenCheck, admission_of, connection_name, told
from proxyd.records import Grant, Refusal, TokenRefused
from proxyd.target import Principal
from tests.postgres.tokens import known_tokens

ANY = Principal("token", "192.0.2.1")
ANN = Principal("ann", "192.0.2.1")
BOB = Principal("bob", "192.0.2.1")


class _Server:
    """What a place leads to, as far as a login looks at it."""

    def __init__(self, name: str) -> None:
        self.connection = Connection(name, Dsn(()))


def place(name: str) -> Place:
    """The place behind a connection."""
    return Place(_Server(name), name, True)  # type: ignore[arg-type]


class AdmissionTests(SynchronousTestCase):
    """Whom a good token lets in, and where."""

    def refused(self, grant: Grant, where: Place | None, principal: Principal) -> Refusal:
        """Why it does not."""
        with self.assertRaises(TokenRefused) as caught:
            admission_of(grant, where, principal)
        return caught.exception.refusal

    def test_database(self) -> None:
        """A number is a registered database, a text a connection: only what is meant opens."""
        number, text = Grant("t", "", 5, 1.0), Grant("t", "", "orders", 1.0)
        self.assertEqual(admission_of(number, place("db_5"), ANY).principal, ANY)
        self.assertEqual(admission_of(text, place("orders"), ANY).principal, ANY)
        for grant, name in ((number, "5"), (number, "db_6"), (text, "db_5"), (text, "Orders")):
            self.assertIs(self.refused(grant, place(name), ANY), Refusal.WRONG_DATABASE)
        self.assertIs(self.refused(number, None, ANY), Refusal.WRONG_DATABASE)
        self.assertEqual(connection_name(5), "db_5")

    def test_no_such_database(self) -> None:
        """Of a good token it is told where it would let in, so that its holder may hear more."""
        grant = Grant("t", "", 5, 1.0, ("ann",))
        for principal, good_for in ((ANY, "db_5"), (ANN, "db_5"), (BOB, "")):
            with self.assertRaises(TokenRefused) as caught:
                admission_of(grant, None, principal)
            self.assertEqual(told(caught.exception, principal).good_for, good_for)

    def test_user(self) -> None:
        """The name is token, or one that the token names; the one person it names is meant."""
        grant = Grant("t", "", 5, 1.0, ("ann",))
        self.assertEqual(admission_of(grant, place("db_5"), ANN).principal.user, "ann")
        self.assertEqual(admission_of(grant, place("db_5"), ANY).principal.user, "ann")
        both = Grant("t", "", 5, 1.0, ("ann", "bob"))
        self.assertEqual(admission_of(both, place("db_5"), ANY).principal.user, "token")
        none = Grant("t", "", 5, 1.0)
        self.assertIs(self.refused(none, place("db_5"), ANN), Refusal.WRONG_USER)

    def test_term(self) -> None:
        """The session ends with its token."""
        grant = Grant("t", "", 5, 1.0)
        term = admission_of(grant, place("db_5"), ANY).term
        assert term is not None
        self.assertEqual(term.grant, grant)


class CheckTests(SynchronousTestCase):
    """The check of a password that is a token."""

    def setUp(self) -> None:
        self.tokens = known_tokens()
        self.check = TokenCheck(self.tokens)

    def begun(self, name: str, password: bytes) -> Deferred[Admission]:
        """A check."""
        return Deferred.fromCoroutine(self.check.check(place(name), ANY, password))

    def test_good(self) -> None:
        """It lets in."""
        issued = self.successResultOf(self.tokens.issue("shop"))
        admission = self.successResultOf(self.begun("shop", issued.token.encode()))
        self.assertEqual(admission.principal, ANY)
        self.assertTrue(self.check.takes(issued.token.encode()))
        self.assertFalse(self.check.takes(b"hunter2"))

    def test_refused(self) -> None:
        """What is wrong with it has its SQLSTATE; not a byte of it is told or logged."""
        issued = self.successResultOf(self.tokens.issue("shop"))
        token = issued.token.encode()
        self.successResultOf(self.tokens.revoke(issued.token_id))
        for password, sqlstate in ((token, "28000"), (token[:-2], "28P01"), (b"hunter2", "28P01")):
            fatal = self.failureResultOf(self.begun("shop", password), Fatal).value
            self.assertEqual(fatal.sqlstate, sqlstate)
            self.assertIsNone(fatal.__cause__)
            self.assertNotIn(issued.token[:20], fatal.reason + str(fatal.encode()))

    def test_every_refusal_is_told(self) -> None:
        """Each has an SQLSTATE and words."""
        for refusal in Refusal:
            fatal = told(TokenRefused(refusal), ANY)
            self.assertIn(fatal.sqlstate, ("28000", "28P01", "57P03"))
            self.assertTrue(fatal.message)
