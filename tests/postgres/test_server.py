"""Tests for L{proxyd.postgres.server}: logins to servers of every manner, and cancelling there."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from proxyd.errors import DialError, DialFailure
from proxyd.postgres.answers import Refused
from proxyd.postgres.server import Account, Server
from proxyd.postgres.server_connection import ServerConnection
from proxyd.target import Target
from proxyd.wire.pg import messages
from proxyd.wire.pg.login import Unchallenged
from tests.postgres import fakeserver
from tests.postgres.client import until
from tests.postgres.fakeserver import Backend
from tests.postgres.scene import ANN, SERVICE, SceneTestCase

CHECKED = Account("svc", b"service-secret", challenged=True)


class ServerTestCase(SceneTestCase):
    """A server behind a DSN."""

    def begin(self, account: Account = SERVICE, **words: Any) -> Deferred[ServerConnection]:
        """Begin to log in, with a DSN of these words."""
        parameters = {name: words.pop(name) for name in ("require_auth",) if name in words}
        dsn = self.dsn(parameters=parameters, **words)
        self.behind: Server = self.server(self.connection(dsn=dsn))
        return Deferred.fromCoroutine(
            self.behind.login(account, "shop", {"application_name": "x"}, ANN)
        )

    async def log_in(self, account: Account = SERVICE, **words: Any) -> ServerConnection:
        """Log in; closed at the end."""
        connection = await self.begin(account, **words)
        self.addCleanup(connection.abort)
        return connection

    async def failure(self, account: Account = SERVICE, **words: Any) -> Exception:
        """How a login fails; nothing is left of it."""
        try:
            await self.begin(account, **words)
        except (DialError, Refused, Unchallenged) as failed:
            await until(lambda: self.link.ends == 0, "the connection to be dropped")
            return failed
        return self.fail("the login succeeded")


class LoginTests(ServerTestCase):
    """A login, and what of it is kept."""

    async def test_facts(self) -> None:
        """The start-up packet says who and where; what the server tells is kept."""
        connection = await self.log_in()
        self.assertEqual(
            self.fake.startups, [{"user": "svc", "database": "shop", "application_name": "x"}]
        )
        backend = await self.backend()
        self.assertEqual((connection.pid, connection.key), (backend.pid, backend.key))
        self.assertEqual(connection.parameters["server_version"], "15.99")
        self.assertEqual(connection.address, Target("127.0.0.1", self.fake.port))
        self.assertFalse(connection.secure)
        self.assertEqual(self.dialer.for_whom, [ANN])

    async def test_ways(self) -> None:
        """SCRAM and md5 (to loopback), and no question where the DSN does not mind."""
        for login in (fakeserver.scram, fakeserver.md5, fakeserver.trust):
            self.fake.login = login
            await self.log_in()

    async def test_in_clear(self) -> None:
        """A password in clear is given only where the DSN says so."""
        self.fake.login = fakeserver.cleartext
        self.assertIsInstance(await self.failure(), DialError)
        await self.log_in(require_auth="password")

    async def test_require_auth(self) -> None:
        """What the DSN does not allow is not answered."""
        self.fake.login = fakeserver.md5
        self.assertIsInstance(await self.failure(require_auth="scram-sha-256"), DialError)
        self.fake.login = fakeserver.trust
        self.assertIsInstance(await self.failure(require_auth="scram-sha-256"), DialError)

    async def test_no_key(self) -> None:
        """A server without BackendKeyData can be used; only cancelling is impossible."""
        self.fake.keys = False
        connection = await self.log_in()
        self.assertIsNone(connection.key)
        try:
            await self.behind.cancel(connection)
        except DialError as failed:
            self.assertIn("no cancel key", str(failed))
        else:
            self.fail("there was nothing to cancel with")
        self.assertEqual(len(self.dialer.dialled), 1)

    async def test_account_is_quiet(self) -> None:
        """An account shows no password."""
        self.assertNotIn("secret", repr(SERVICE) + str(SERVICE))


class FailureTests(ServerTestCase):
    """Servers that are broken, hostile or gone."""

    async def dial_failure(self, **words: Any) -> DialFailure:
        """In which way it failed."""
        failed = await self.failure(**words)
        assert isinstance(failed, DialError), failed
        return failed.failure

    async def test_refused(self) -> None:
        """A refusal is the server's own words, with whether it had taken the password."""
        self.fake.passwords.clear()
        failed = await self.failure()
        assert isinstance(failed, Refused)
        self.assertEqual((failed.error.sqlstate, failed.authenticated), ("28P01", False))
        self.fake.login = fakeserver.refusing("3D000", "no such database", after=True)
        failed = await self.failure(require_auth="password")
        assert isinstance(failed, Refused)
        self.assertEqual((failed.error.sqlstate, failed.authenticated), ("3D000", True))

    async def test_no_sqlstate(self) -> None:
        """An ErrorResponse without an SQLSTATE is a refusal too."""
        self.fake.login = fakeserver.refusing(None, "no")
        failed = await self.failure()
        assert isinstance(failed, Refused)
        self.assertEqual(failed.error.sqlstate, "XX000")

    async def test_hangs_up(self) -> None:
        """A server that closes in the middle was lost."""
        self.fake.login = fakeserver.hang_up
        self.assertIs(await self.dial_failure(), DialFailure.LOST)

    async def test_nonsense(self) -> None:
        """A server that is none is broken."""
        self.fake.login = fakeserver.garbage
        self.assertIs(await self.dial_failure(), DialFailure.BROKEN)

    async def test_liars(self) -> None:
        """A server that can't prove that it knows the password is not believed."""
        for login in (fakeserver.scram_lying, fakeserver.scram_unproved):
            self.fake.login = login
            self.assertIs(await self.dial_failure(), DialFailure.BROKEN)

    async def test_unchallenged(self) -> None:
        """Where the password was to be checked, a bare AuthenticationOk is none."""
        self.fake.login = fakeserver.trust
        self.assertIsInstance(await self.failure(CHECKED), Unchallenged)

    async def test_gone(self) -> None:
        """Nobody listens."""
        await self.fake.stop()
        self.assertIs(await self.dial_failure(), DialFailure.REFUSED)

    async def test_silent(self) -> None:
        """A server that never answers is given up at connect_timeout, and hung up on."""
        self.fake.login = fakeserver.silent
        logging_in = self.begin()
        await until(lambda: self.fake.startups, "the start-up packet")
        self.clock.advance(9.9)
        self.assertFalse(logging_in.called)
        self.clock.advance(0.2)
        try:
            await logging_in
        except DialError as failed:
            self.assertIs(failed.failure, DialFailure.TIMEOUT)
        else:
            self.fail("nobody had answered")
        await until(lambda: self.fake.seen[0].over, "the end")

    async def test_cancelled(self) -> None:
        """Whoever gives up a login leaves nothing behind."""
        self.fake.login = fakeserver.silent
        logging_in = self.begin()
        await until(lambda: self.fake.startups, "the start-up packet")
        logging_in.cancel()
        try:
            await logging_in
        except CancelledError:
            pass
        else:
            self.fail("it was given up")
        await until(lambda: self.fake.seen[0].over, "the end")
        self.assertEqual([call.active() for call in self.clock.getDelayedCalls()], [])

    async def test_next_host(self) -> None:
        """Where the first host can't be reached the next one is tried; a refusal is final."""
        here = Target("127.0.0.1", self.fake.port)
        nobody = Target("127.0.0.1", 1)
        (await self.log_in(hosts=(nobody, here))).abort()
        self.assertEqual(self.dialer.dialled, [nobody, here])
        self.fake.passwords.clear()
        failed = await self.failure(hosts=(here, nobody))
        self.assertIsInstance(failed, Refused)


class TlsTests(ServerTestCase):
    """sslmode, as libpq means it."""

    async def asked_for_tls(self, sslmode: str) -> bool:
        """Log in with this sslmode; whether it went by TLS."""
        connection = await self.log_in(sslmode=sslmode)
        backend = await self.backend()
        self.assertEqual(connection.secure, backend.secure)
        return connection.secure

    async def test_offered(self) -> None:
        """Where TLS is offered it is used, unless the DSN would rather not."""
        self.fake.tls = True
        used = {mode: await self.asked_for_tls(mode) for mode in ("prefer", "require")}
        self.assertEqual(used, {"prefer": True, "require": True})
        plain = {mode: await self.asked_for_tls(mode) for mode in ("disable", "allow")}
        self.assertEqual(plain, {"disable": False, "allow": False})

    async def test_not_offered(self) -> None:
        """Where it is not, C{prefer} goes on without, and C{require} does not."""
        self.assertFalse(await self.asked_for_tls("prefer"))
        for mode in ("require", "verify-ca", "verify-full"):
            failed = await self.failed_tls(mode)
            self.assertIs(failed.failure, DialFailure.TLS)

    async def failed_tls(self, sslmode: str) -> DialError:
        """How it fails with this sslmode."""
        try:
            await self.log_in(sslmode=sslmode)
        except DialError as failed:
            return failed
        return self.fail("the login succeeded")

    async def test_not_verified(self) -> None:
        """A certificate that nobody signed is refused where it counts; no password went."""
        self.fake.tls = True
        for mode in ("verify-ca", "verify-full"):
            failed = await self.failed_tls(mode)
            self.assertIs(failed.failure, DialFailure.TLS)
        self.assertEqual(self.fake.startups, [])

    async def test_refused_without(self) -> None:
        """With C{prefer} a server that wants no TLS (28000) is tried without, and the reverse."""
        self.fake.tls = True

        def only_plain(backend: Backend) -> None:
            if backend.secure:
                fakeserver.refusing("28000", "no pg_hba.conf entry")(backend)
            else:
                fakeserver.scram(backend)

        def only_tls(backend: Backend) -> None:
            if backend.secure:
                fakeserver.scram(backend)
            else:
                fakeserver.refusing("28000", "no pg_hba.conf entry")(backend)

        self.fake.login = only_plain
        self.assertFalse(await self.asked_for_tls("prefer"))
        self.fake.login = only_tls
        self.assertTrue(await self.asked_for_tls("allow"))

    async def test_wrong_password_is_final(self) -> None:
        """A wrong password is not tried a second time in clear."""
        self.fake.tls = True
        self.fake.passwords.clear()
        failed = await self.failure(sslmode="prefer")
        self.assertIsInstance(failed, Refused)
        self.assertEqual(len(self.fake.startups), 1)


class CancelTests(ServerTestCase):
    """Cancel requests go where the connection is, in the way it went."""

    async def cancelled(self, **words: Any) -> Backend:
        """Cancel a statement; the connection that the request came by."""
        connection = await self.log_in(**words)
        backend = await self.backend()
        running = connection.run(messages.query("SLEEP"))
        await until(lambda: backend.working, "the statement")
        await self.behind.cancel(connection)
        try:
            await running
        except Exception as failed:
            self.assertIn("57014", str(failed))
        else:
            self.fail("it was not cancelled")
        self.assertEqual(self.fake.cancels, [backend.pid])
        return self.fake.seen[-1]

    async def test_plain(self) -> None:
        """To the very address that answered."""
        await self.cancelled()
        self.assertEqual(self.dialer.dialled[-1], Target("127.0.0.1", self.fake.port))

    async def test_secure(self) -> None:
        """A connection by TLS is cancelled by TLS."""
        self.fake.tls = True
        request = await self.cancelled(sslmode="require")
        self.assertTrue(request.secure)

    async def test_done_when_taken(self) -> None:
        """It is done when the server has closed the request, not before."""
        self.fake.hold_cancels = True
        connection = await self.log_in()
        asking = Deferred.fromCoroutine(self.behind.cancel(connection))
        await until(lambda: self.fake.held, "the request")
        self.assertFalse(asking.called)
        self.fake.let_cancels_go()
        await asking

    async def test_gone(self) -> None:
        """A server that is gone can't be asked."""
        connection = await self.log_in()
        await self.fake.stop()
        try:
            await self.behind.cancel(connection)
        except DialError:
            pass
        else:
            self.fail("nobody was there")
