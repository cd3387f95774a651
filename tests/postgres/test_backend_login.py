"""
Tests for L{proxyd.postgres.backend_login}: whose password is believed.

The class of CVE-2025-46801 above all: nothing but the server's answer to this
very user, password and database lets anybody in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.times import PasswordTimes
from proxyd.errors import DialError, DialFailure
from proxyd.net import failures
from proxyd.net.failures import FREE_FAILURES
from proxyd.postgres import backend_login
from proxyd.postgres.answers import Fatal, Refused
from proxyd.postgres.backend_login import AT_ONCE, Verifier
from proxyd.postgres.server import Account
from proxyd.target import Principal, Target
from proxyd.wire.pg.errors import ServerMessage
from proxyd.wire.pg.login import Unchallenged
from tests.postgres import fakeserver
from tests.postgres.client import until
from tests.postgres.scene import ANN, SceneTestCase
from tests.postgres.test_pool import shop

SECRET = "hush-hush-52"


class LoggedIn:
    """A connection that was logged in only to see whether it can be."""

    def __init__(self) -> None:
        self.said_goodbye = False

    def goodbye(self) -> None:
        """End it."""
        self.said_goodbye = True


class Asked:
    """A server whose logins wait for the test."""

    def __init__(self, name: str = "shop") -> None:
        self.connection = shop(name=name)
        self.logins: list[tuple[Account, str, Deferred[LoggedIn]]] = []
        self.parameters: list[object] = []
        self.over: list[LoggedIn] = []

    async def login(
        self, account: Account, database: str, parameters: object, principal: Principal
    ) -> LoggedIn:
        """A login is under way."""
        answer: Deferred[LoggedIn] = Deferred()
        self.parameters.append(parameters)
        self.logins.append((account, database, answer))
        return await answer

    def yes(self, number: int = -1) -> None:
        """The password is right."""
        self.over.append(LoggedIn())
        self.logins[number][2].callback(self.over[-1])

    def no(self, sqlstate: str = "28P01", number: int = -1) -> None:
        """The server says no."""
        self.logins[number][2].errback(Refused(ServerMessage("FATAL", sqlstate, "words"), False))


def dsn_to(host: str) -> Any:
    """A DSN to another host."""
    return replace(shop().dsn, hosts=(Target(host, 5432),))


class VerifierTestCase(SynchronousTestCase):
    """A verifier with a clock and a server of memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.verifier = Verifier(self.clock, PasswordTimes())
        self.server = Asked()

    def ask(
        self,
        password: str = SECRET,
        user: str = "ann",
        source: str = "192.0.2.9",
        database: str = "shop",
        server: Asked | None = None,
    ) -> Deferred[None]:
        """Somebody logs in."""
        behind: Any = server or self.server
        return Deferred.fromCoroutine(
            self.verifier.verify(behind, database, password.encode(), Principal(user, source))
        )

    def refused(self, asking: Deferred[None]) -> Fatal:
        """How it was refused."""
        fatal: Fatal = self.failureResultOf(asking, Fatal).value
        return fatal

    def fail(self, count: int, **who: str) -> None:
        """So many wrong passwords, each after its pause."""
        for number in range(count):
            asking = self.ask(f"wrong{number}", **who)
            self.clock.advance(10.0)
            self.server.no()
            self.refused(asking)


class BelievedTests(VerifierTestCase):
    """What is believed, and for how long."""

    def test_asked(self) -> None:
        """The server is asked as the client, with its database and nothing else of its."""
        asking = self.ask()
        account, database, _ = self.server.logins[0]
        self.assertEqual((account.user, account.password), ("ann", SECRET.encode()))
        self.assertTrue(account.challenged)
        self.assertEqual((database, self.server.parameters), ("shop", [{}]))
        self.server.yes()
        self.successResultOf(asking)
        self.assertTrue(self.server.over[0].said_goodbye)

    def test_kept_for_seconds(self) -> None:
        """A good answer is believed for a few seconds, then the server is asked again."""
        first = self.ask()
        self.server.yes()
        self.successResultOf(first)
        self.clock.advance(PasswordTimes().kept - 0.1)
        self.successResultOf(self.ask())
        self.assertEqual(len(self.server.logins), 1)
        self.clock.advance(0.2)
        again = self.ask()
        self.assertEqual(len(self.server.logins), 2)
        self.server.no()
        self.assertEqual(self.refused(again).sqlstate, "28P01")
        self.assertLessEqual(PasswordTimes().kept, 10.0)

    def test_anything_else_is_asked(self) -> None:
        """After a right password nothing that differs in anything is believed (CVE-2025-46801)."""
        first = self.ask()
        self.server.yes()
        self.successResultOf(first)
        others: list[dict[str, Any]] = [
            {"password": "other"},
            {"password": SECRET + "\0"},
            {"password": SECRET[:-1]},
            {"password": SECRET.upper()},
            {"user": "bob"},
            {"user": "Ann"},
            {"user": "ann" + SECRET, "password": "x"},
            {"database": "postgres"},
            {"server": Asked("crm")},
        ]
        for other in others:
            server = other.get("server", self.server)
            before = len(server.logins)
            asking = self.ask(**other)
            self.assertNoResult(asking)
            self.assertEqual(len(server.logins), before + 1, other)
            server.no(number=before)
            self.assertEqual(self.refused(asking).sqlstate, "28P01")
            self.verifier._failures.forget()

    def test_another_server_of_that_name(self) -> None:
        """After a reload the same name with other hosts is another server."""
        first = self.ask()
        self.server.yes()
        self.successResultOf(first)
        moved = Asked()
        moved.connection = shop(dsn=dsn_to("elsewhere.example"))
        self.assertNoResult(self.ask(server=moved))
        self.assertEqual(len(moved.logins), 1)

    @given(st.lists(st.text(max_size=4), min_size=4, max_size=4), st.integers(1, 3))
    def test_parts_do_not_run_together(self, parts: list[str], at: int) -> None:
        """Moving a character from one part to the next makes another question."""
        moved = list(parts)
        moved[at - 1], moved[at] = parts[at - 1] + parts[at][:1], parts[at][1:]
        same = moved == parts
        self.assertEqual(self.verifier._proof(*parts) == self.verifier._proof(*moved), same)

    def test_no_one_else_computes_it(self) -> None:
        """What is kept is keyed: another process keeps something else, and no password."""
        first = self.ask()
        self.server.yes()
        self.successResultOf(first)
        self.assertNotEqual(
            self.verifier._proof("a"), Verifier(self.clock, PasswordTimes())._proof("a")
        )
        self.assertNotIn(SECRET, repr(vars(self.verifier)))
        self.assertNotIn(SECRET, repr(self.server.logins[0][0]))

    def test_bounded(self) -> None:
        """Neither good answers nor failures fill the memory."""
        self.patch(backend_login, "_REMEMBERED", 10)
        self.patch(failures, "REMEMBERED", 10)
        for number in range(30):
            asking = self.ask(user=f"user{number}")
            self.server.yes()
            self.successResultOf(asking)
            failing = self.ask("wrong", user=f"user{number}")
            self.server.no()
            self.refused(failing)
        self.assertEqual(len(self.verifier._good), 10)
        self.assertEqual(len(self.verifier._failures), 10)


class TogetherTests(VerifierTestCase):
    """Equal questions that come together are asked once."""

    def test_one_login(self) -> None:
        """A hundred equal logins are one on the server."""
        asking = [self.ask() for _ in range(100)]
        self.assertEqual(len(self.server.logins), 1)
        self.server.yes()
        for one in asking:
            self.successResultOf(one)

    def test_all_refused(self) -> None:
        """They share a refusal too."""
        asking = [self.ask() for _ in range(3)]
        self.server.no()
        self.assertEqual([self.refused(one).sqlstate for one in asking], ["28P01"] * 3)

    def test_first_hangs_up(self) -> None:
        """When the first one goes the others' question is asked again, once; they get in."""
        asking = [self.ask() for _ in range(3)]
        asking[0].cancel()
        self.failureResultOf(asking[0], CancelledError)
        self.assertEqual(len(self.server.logins), 2)
        self.server.yes()
        self.successResultOf(asking[1])
        self.successResultOf(asking[2])

    def test_joiner_hangs_up(self) -> None:
        """When a joiner goes the others don't notice."""
        asking = [self.ask() for _ in range(3)]
        asking[1].cancel()
        self.failureResultOf(asking[1], CancelledError)
        self.server.yes()
        self.successResultOf(asking[0])
        self.successResultOf(asking[2])

    def test_different_passwords_are_not_joined(self) -> None:
        """A wrong password beside a right one in flight is asked by itself."""
        right, wrong = self.ask(), self.ask("wrong")
        self.assertEqual(len(self.server.logins), 2)
        self.server.yes(0)
        self.successResultOf(right)
        self.assertNoResult(wrong)
        self.server.no(number=1)
        self.refused(wrong)

    def test_at_once(self) -> None:
        """No more than AT_ONCE run on one server; the rest wait, another server's do not."""
        asking = [self.ask(user=f"user{number}") for number in range(AT_ONCE + 3)]
        self.assertEqual(len(self.server.logins), AT_ONCE)
        other = Asked("crm")
        self.ask(server=other)
        self.assertEqual(len(other.logins), 1)
        self.server.yes(0)
        self.successResultOf(asking[0])
        self.assertEqual(len(self.server.logins), AT_ONCE + 1)

    def test_turn_is_given_back(self) -> None:
        """Whoever gives up, running or waiting, holds up nobody."""
        asking = [self.ask(user=f"user{number}") for number in range(AT_ONCE + 2)]
        asking[-2].cancel()
        self.failureResultOf(asking[-2], CancelledError)
        asking[0].cancel()
        self.failureResultOf(asking[0], CancelledError)
        self.assertEqual(self.server.logins[-1][0].user, f"user{AT_ONCE + 1}")


class FailureTests(VerifierTestCase):
    """Those who fail wait."""

    def waits(self, seconds: float, **who: str) -> None:
        """The next attempt of somebody is made after so many seconds, and not before."""
        before = len(self.server.logins)
        asking = self.ask("next", **who)
        if seconds:
            self.clock.advance(seconds - 0.01)
            self.assertEqual(len(self.server.logins), before)
            self.clock.advance(0.02)
        self.assertEqual(len(self.server.logins), before + 1)
        self.server.no()
        self.refused(asking)

    def test_first_ones_are_free(self) -> None:
        """A few wrong passwords cost no waiting; then each costs twice the one before."""
        for _ in range(FREE_FAILURES):
            self.waits(0.0)
        for seconds in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0):
            self.waits(seconds)

    def test_others_do_not_wait(self) -> None:
        """Another user, and the same user from elsewhere, don't wait for it."""
        self.fail(6)
        self.waits(0.0, user="bob")
        self.waits(0.0, source="192.0.2.10")

    def test_right_password_too(self) -> None:
        """A right password waits as well, or the pause would tell which one is right."""
        self.fail(FREE_FAILURES)
        asking = self.ask()
        self.assertEqual(len(self.server.logins), FREE_FAILURES)
        self.clock.advance(0.3)
        self.server.yes()
        self.successResultOf(asking)
        self.waits(0.0)

    def test_forgiven(self) -> None:
        """After a quiet minute it is forgotten."""
        self.fail(6)
        self.clock.advance(61.0)
        self.waits(0.0)

    def test_trouble_is_no_failure(self) -> None:
        """A server that can't be reached is nobody's wrong password."""
        for _ in range(6):
            asking = self.ask()
            self.server.logins[-1][2].errback(DialError(DialFailure.REFUSED, "db"))
            self.assertEqual(self.refused(asking).sqlstate, "08001")
        self.waits(0.0)

    def test_empty(self) -> None:
        """An empty password is refused without asking the server."""
        self.assertEqual(self.refused(self.ask("")).sqlstate, "28P01")
        self.assertEqual(self.server.logins, [])


class AnswerTests(VerifierTestCase):
    """What the client is told."""

    def test_same_words(self) -> None:
        """Unknown user, wrong password, unknown database and trust from afar: the same words."""
        asking = self.ask("wrong")
        self.server.no()
        wrong = self.refused(asking).encode()
        nobody = Deferred.fromCoroutine(self.verifier.refuse(ANN, "no such database"))
        self.assertNoResult(nobody)
        self.clock.advance(1.0)
        self.assertEqual(self.refused(nobody).encode(), wrong)

    def test_as_slow_as_the_server(self) -> None:
        """A refusal without the server takes about as long as the server's own do."""
        for number in range(40):
            asking = self.ask("wrong", user=f"user{number}")
            self.clock.advance(0.2)
            self.server.no()
            self.refused(asking)
        nobody = Deferred.fromCoroutine(self.verifier.refuse(ANN, "no such database"))
        self.clock.advance(0.15)
        self.assertNoResult(nobody)
        self.clock.advance(0.1)
        self.refused(nobody)

    def test_refusals_back_off(self) -> None:
        """Guessing databases costs waiting like guessing passwords."""
        for _ in range(FREE_FAILURES):
            nobody = Deferred.fromCoroutine(self.verifier.refuse(ANN, "no such database"))
            self.clock.advance(0.1)
            self.refused(nobody)
        nobody = Deferred.fromCoroutine(self.verifier.refuse(ANN, "no such database"))
        self.clock.advance(0.2)
        self.assertNoResult(nobody)

    def test_server_codes(self) -> None:
        """The server's own SQLSTATE reaches the client."""
        for state in ("28000", "3D000", "53300"):
            asking = self.ask(user=f"user{state}")
            self.server.no(state)
            self.assertEqual(self.refused(asking).sqlstate, state)

    def test_starting_up(self) -> None:
        """A server that is starting up is asked again, up to connect_timeout; then it is told."""
        asking = self.ask()
        for _ in range(3):
            self.server.no("57P03")
            self.assertNoResult(asking)
            before = len(self.server.logins)
            self.clock.advance(0.24)
            self.assertEqual(len(self.server.logins), before)
            self.clock.advance(0.26)
            self.assertEqual(len(self.server.logins), before + 1)
        self.server.yes()
        self.successResultOf(asking)
        asking = self.ask(user="bob")
        for _ in range(100):
            self.server.no("57P03")
            if asking.called:
                break
            self.clock.advance(0.5)
        self.assertEqual(self.refused(asking).sqlstate, "57P03")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_crowd_at_a_server_that_starts(self) -> None:
        """Only so many ask it again and again; the others wait for their turns."""
        asking = [self.ask(user=f"user{number}") for number in range(100)]
        for _ in range(5):
            for number in range(len(self.server.logins)):
                if not self.server.logins[number][2].called:
                    self.server.no("57P03", number)
            before = len(self.server.logins)
            self.clock.advance(0.5)
            self.assertLessEqual(len(self.server.logins) - before, AT_ONCE)
        for one in asking:
            one.cancel()
            self.failureResultOf(one, CancelledError)

    def test_refusal_is_not_kept(self) -> None:
        """A refusal is never remembered: a password that was just set works at once."""
        asking = self.ask()
        self.server.no()
        self.refused(asking)
        again = self.ask()
        self.assertEqual(len(self.server.logins), 2)
        self.server.yes()
        self.successResultOf(again)

    def test_unchallenged(self) -> None:
        """A server that lets everybody in from here checks nothing: 28000, for all who wait."""
        asking = [self.ask(), self.ask()]
        self.server.logins[0][2].errback(Unchallenged("it trusts this address"))
        self.assertEqual([self.refused(one).sqlstate for one in asking], ["28000"] * 2)
        again = self.ask()
        self.assertNoResult(again)


class RealTests(SceneTestCase):
    """With a server on a socket."""

    async def verify(self, password: str = SECRET, user: str = "ann") -> str:
        """Log in; the SQLSTATE, empty when it was right."""
        verifier = Verifier(self.clock, PasswordTimes())
        try:
            await verifier.verify(
                self.server(), "shop", password.encode(), Principal(user, "192.0.2.9")
            )
        except Fatal as fatal:
            return fatal.sqlstate
        return ""

    async def test_every_way(self) -> None:
        """Right and wrong are told apart in every way a server may ask."""
        self.fake.passwords["ann"] = SECRET.encode()
        for login in (fakeserver.scram, fakeserver.md5):
            self.fake.login = login
            self.assertEqual(await self.verify(), "")
            self.assertEqual(await self.verify("wrong"), "28P01")
            self.assertEqual(await self.verify(user="bob"), "28P01")
        await until(lambda: not self.fake.open, "the logins to end")

    async def test_bytes(self) -> None:
        """A password that is no UTF-8, or odd UTF-8, is checked like any other."""
        for password in (b"\xff\xfe", "p\u00e4ss".encode(), b"\xed\xa0\x80"):
            self.fake.passwords["ann"] = password
            await Verifier(self.clock, PasswordTimes()).verify(self.server(), "shop", password, ANN)

    async def test_not_challenged(self) -> None:
        """A bare AuthenticationOk is a refusal, and the log names the server's pg_hba.conf."""
        self.fake.login = fakeserver.trust
        self.assertEqual(await self.verify("anything"), "28000")
        (line,) = self.logged(LogLevel.error)
        self.assertIn("pg_hba.conf", line)

    async def test_liars(self) -> None:
        """SCRAM without its proof, or with a wrong one, lets nobody in."""
        self.fake.passwords["ann"] = SECRET.encode()
        for login in (fakeserver.scram_lying, fakeserver.scram_unproved):
            self.fake.login = login
            self.assertEqual(await self.verify(), "08001")

    async def test_broken_servers(self) -> None:
        """What is no answer is no password either."""
        cases = {
            fakeserver.hang_up: "08006",
            fakeserver.garbage: "08001",
            fakeserver.refusing(None, "no code"): "XX000",
        }
        for login, state in cases.items():
            self.fake.login = login
            self.assertEqual(await self.verify(), state)
        await self.fake.stop()
        self.assertEqual(await self.verify(), "08001")

    async def test_password_in_clear(self) -> None:
        """A server that asks for the password in clear does not get it."""
        self.fake.login = fakeserver.cleartext
        self.assertEqual(await self.verify(), "08001")
        self.assertEqual(self.fake.seen[0].said, [])

    async def test_never_told(self) -> None:
        """No password is in the log, whatever happens."""
        self.fake.passwords["ann"] = SECRET.encode()
        await self.verify()
        await self.verify("other-" + SECRET)
        self.fake.login = fakeserver.trust
        await self.verify()
        self.fake.login = fakeserver.garbage
        await self.verify()
        self.assert_never_told(SECRET)
