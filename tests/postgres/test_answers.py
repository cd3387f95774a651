"""Tests for L{proxyd.postgres.answers}: the one table from our words to SQLSTATEs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import DialError, DialFailure
from proxyd.postgres import answers
from proxyd.postgres.answers import Fatal
from proxyd.wire.pg.errors import ServerMessage, parse_error

SAID = ServerMessage("FATAL", "28000", "no entry for host 10.1.2.3", "secret detail", "some hint")


class FatalTests(SynchronousTestCase):
    """What ends a session is a complete PostgreSQL error."""

    def test_complete(self) -> None:
        """Severity in both fields, SQLSTATE and message are there; detail and hint when given."""
        error = parse_error(Fatal("53300", "too many", "detail", "hint").encode()[5:])
        self.assertEqual(
            error.fields,
            {"S": "FATAL", "V": "FATAL", "C": "53300", "M": "too many", "D": "detail", "H": "hint"},
        )
        self.assertEqual(set(parse_error(Fatal("53300", "x").encode()[5:]).fields), set("SVCM"))

    def test_reason_is_not_told(self) -> None:
        """What only the log may know is not in what the client gets."""
        fatal = Fatal("28P01", "no", reason="the operator's business")
        self.assertNotIn(b"operator", fatal.encode())
        self.assertEqual(Fatal("28P01", "no").reason, "no")

    def test_states_of_the_contract(self) -> None:
        """Each case has the SQLSTATE that users were promised."""
        states = {
            answers.starting(): "57P03",
            answers.draining(): "57P03",
            answers.shutdown("x"): "57P01",
            answers.too_many(): "53300",
            answers.wrong_password("ann", "x"): "28P01",
            answers.lost_server("x"): "08006",
            answers.pool_full(30.0, 10): "53300",
        }
        for fatal, state in states.items():
            self.assertEqual(fatal.sqlstate, state, fatal.message)
            self.assertEqual(parse_error(fatal.encode()[5:]).sqlstate, state)

    def test_same_words(self) -> None:
        """An unknown user and a wrong password can't be told apart."""
        one, other = (answers.wrong_password("ann", why) for why in ("no such user", "wrong"))
        self.assertEqual(one.encode(), other.encode())


class UnreachableTests(SynchronousTestCase):
    """A server that can't be reached is never the client's fault."""

    def test_every_failure(self) -> None:
        """Every way to fail has an answer: 08006 when it was lost, else 08001; never 28xxx."""
        for failure in DialFailure:
            fatal = answers.unreachable(DialError(failure, "server db.internal:5432"))
            lost = failure is DialFailure.LOST
            self.assertEqual(fatal.sqlstate, "08006" if lost else "08001", failure)

    def test_no_inner_names(self) -> None:
        """The client does not learn the server's address; the log does."""
        fatal = answers.unreachable(DialError(DialFailure.REFUSED, "server db.internal:5432"))
        self.assertNotIn(b"db.internal", fatal.encode())
        self.assertIn(b"Connection refused.", fatal.encode())
        self.assertIn("db.internal", fatal.reason)


class RefusedTests(SynchronousTestCase):
    """What a server's refusal becomes."""

    def test_service_user(self) -> None:
        """Trouble of the service user's is 08006 with the SQLSTATE in DETAIL, never 28xxx."""
        for state in ("28P01", "28000", "42501", "XX000"):
            fatal = answers.service_refused(ServerMessage("FATAL", state, "secret words"), True)
            self.assertEqual(fatal.sqlstate, "08006")
            self.assertIn(state, fatal.detail)
            self.assertNotIn(b"secret words", fatal.encode())
            self.assertIn("secret words", fatal.reason)

    def test_service_user_passed_on(self) -> None:
        """What is about the server's state or the database keeps its SQLSTATE."""
        for state in ("53300", "57P03", "3D000"):
            said = ServerMessage("FATAL", state, "the server's words")
            fatal = answers.service_refused(said, True)
            self.assertEqual((fatal.sqlstate, fatal.message), (state, "the server's words"))

    def test_service_user_before_the_password(self) -> None:
        """What may be another's words is for the log only (CVE-2024-10977)."""
        for state in ("53300", "57P03", "3D000", "57P01", "57P02", "28000"):
            said = ServerMessage("FATAL", state, "send your password to evil.example")
            fatal = answers.service_refused(said, False)
            self.assertNotIn(b"evil", fatal.encode())
            self.assertIn("evil", fatal.reason)

    def test_going_down(self) -> None:
        """A server that crashes or goes down in the middle of a login may be asked again."""
        for state in ("57P01", "57P02"):
            said = ServerMessage("FATAL", state, "terminating connection")
            self.assertEqual(answers.service_refused(said, False).sqlstate, "57P03")
            self.assertEqual(answers.login_refused(said, False, "ann").sqlstate, "57P03")

    def test_before_the_password(self) -> None:
        """The server's SQLSTATE reaches the client, what it said before it knew us does not."""
        for state in ("28000", "53300", "57P03", "XX000"):
            said = ServerMessage(
                "FATAL", state, "from 10.1.2.3", "detail 10.1.2.3", "hint 10.1.2.3"
            )
            fatal = answers.login_refused(said, False, "ann")
            self.assertEqual(fatal.sqlstate, state)
            self.assertNotIn(b"10.1.2.3", fatal.encode())
            self.assertIn("10.1.2.3", fatal.reason)

    def test_after_the_password(self) -> None:
        """After it the server's own words are the client's."""
        fatal = answers.login_refused(SAID, True, "ann")
        error = parse_error(fatal.encode()[5:])
        self.assertEqual(error.message, "no entry for host 10.1.2.3")
        self.assertEqual((error.detail, error.hint), ("secret detail", "some hint"))
