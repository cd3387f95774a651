"""Tests for L{proxyd.postgres.server}: logins to servers of every manner, and cancelling there."""

from __future__ import annotations

import socket
from typing import Any

from cryptography.hazmat.primitives import hashes
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from proxyd.config.dsn_words import READ
from proxyd.dial.direct import DirectDialer
from proxyd.errors import DialError, DialFailure
from proxyd.net.resolver import Address, Resolver
from proxyd.postgres.answers import Refused
from proxyd.postgres.hosts import IS_STANDBY
from proxyd.postgres.server import CANCELS, Account, Server
from proxyd.postgres.server_connection import ServerConnection
from proxyd.target import Target
from proxyd.wire.pg import messages
from proxyd.wire.pg.login import Unchallenged
from tests.net.authority import made
from tests.postgres import fakeserver
from tests.postgres.client import until
from tests.postgres.fakeserver import Backend, FakeServer
from tests.postgres.scene import ANN, SERVICE, SceneTestCase

CHECKED = Account("svc", b"service-secret", challenged=True)


class ServerTestCase(SceneTestCase):
    """A server behind a DSN."""

    def begin(self, account: Account = SERVICE, **words: Any) -> Deferred[ServerConnection]:
        """Begin to log in, with a DSN of these words."""
        parameters = {name: words.pop(name) for name in READ if name in words and name != "sslmode"}
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


class WordTests(ServerTestCase):
    """What the DSN's words do to a login."""

    async def test_startup(self) -> None:
        """Our own connections say what the DSN says of them; the pool's words win."""
        await self.log_in(options="-c geqo=off", application_name="pool", client_encoding="UTF8")
        self.assertEqual(
            self.fake.startups[-1],
            {
                "user": "svc",
                "database": "shop",
                "options": "-c geqo=off",
                "client_encoding": "UTF8",
                "application_name": "x",
            },
        )

    async def test_nothing_where_a_password_is_checked(self) -> None:
        """On the connection that checks a client's password none of it stands (CVE-2025-12819)."""
        await self.log_in(CHECKED, options="-c search_path=evil", application_name="pool")
        self.assertEqual(
            self.fake.startups[-1], {"user": "svc", "database": "shop", "application_name": "x"}
        )

    async def mechanism(self, **words: Any) -> str:
        """By which mechanism one logs in to a server that offers channel binding."""
        self.fake.tls = True
        self.fake.pair = self.fake.pair or made("127.0.0.1")
        binding = self.fake.pair.certificate.fingerprint(hashes.SHA256())
        self.fake.login = lambda backend: fakeserver.scram(backend, binding=binding)
        await self.log_in(sslmode="require", **words)
        return self.fake.seen[-1].mechanism

    async def test_channel_binding(self) -> None:
        """It is used where it is offered, unless it is unwanted."""
        plus, plain = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"
        self.assertEqual(await self.mechanism(), plus)
        self.assertEqual(await self.mechanism(channel_binding="require"), plus)
        self.assertEqual(await self.mechanism(channel_binding="disable"), plain)

    async def test_no_channel_binding(self) -> None:
        """channel_binding=require: whoever stands between and offers none gets no password."""
        self.fake.tls = True
        for login in (fakeserver.scram, fakeserver.md5, fakeserver.cleartext, fakeserver.trust):
            self.fake.login = login
            failed = await self.failure(sslmode="prefer", channel_binding="require")
            assert isinstance(failed, DialError), failed
            self.assertIs(failed.failure, DialFailure.BROKEN)
        self.fake.tls = False
        failed = await self.failure(sslmode="prefer", channel_binding="require")
        assert isinstance(failed, DialError), failed
        self.assertIs(failed.failure, DialFailure.TLS)
        self.assertEqual([seen.mechanism for seen in self.fake.seen], [""] * 5)

    async def test_protocol(self) -> None:
        """3.0 is asked for, and 3.2 where the DSN says so; long keys are taken, and shown."""
        await self.log_in()
        self.assertEqual(self.fake.seen[-1].version, 3 << 16)
        self.fake.key_bytes = 256
        connection = await self.log_in(max_protocol_version="latest")
        backend = await self.backend()
        self.assertEqual(backend.version, 3 << 16 | 2)
        self.assertEqual((connection.key, len(backend.key)), (backend.key, 256))
        await self.behind.cancel(connection)
        self.assertEqual(self.fake.seen[-1].key, backend.key)

    async def test_direct(self) -> None:
        """A connection by direct TLS, and its cancel request by the same."""
        self.fake.tls = self.fake.alpn = True
        connection = await self.log_in(sslmode="require", sslnegotiation="direct")
        await self.behind.cancel(connection)
        self.assertEqual([seen.secure for seen in self.fake.seen], [True, True])
        self.assertEqual(self.fake.cancels, [connection.pid])


class RoleTests(ServerTestCase):
    """Several hosts, of which one is meant."""

    async def setUp(self) -> None:
        """A primary and a standby."""
        await super().setUp()
        self.standby = FakeServer()
        await self.standby.start()
        self.addCleanup(self.standby.stop)
        self.roles(self.fake, "off")
        self.roles(self.standby, "on")
        self.primary_at = Target("127.0.0.1", self.fake.port)
        self.standby_at = Target("127.0.0.1", self.standby.port)

    def roles(self, server: FakeServer, standby: str | None) -> None:
        """What a server says it is; None: it is too old to say."""
        told = {"in_hot_standby": standby, "default_transaction_read_only": "off"}
        for name, value in told.items():
            if standby is None or value is None:
                server.parameters.pop(name, None)
            else:
                server.parameters[name] = value

    async def chosen(self, wanted: str, *hosts: Target) -> Target:
        """Which host a login goes to; hosts are tried in this order."""
        connection = await self.log_in(
            target_session_attrs=wanted,
            hosts=hosts or (self.standby_at, self.primary_at),
        )
        connection.abort()
        return connection.address

    async def test_told(self) -> None:
        """By what the servers tell at the login."""
        for wanted, hosts, host in (
            ("any", (self.standby_at, self.primary_at), self.standby_at),
            ("read-write", (self.standby_at, self.primary_at), self.primary_at),
            ("primary", (self.standby_at, self.primary_at), self.primary_at),
            ("read-only", (self.primary_at, self.standby_at), self.standby_at),
            ("standby", (self.primary_at, self.standby_at), self.standby_at),
            ("prefer-standby", (self.primary_at, self.standby_at), self.standby_at),
        ):
            self.assertEqual(await self.chosen(wanted, *hosts), host, wanted)
        self.assertEqual([backend.queries for backend in self.fake.seen if backend.queries], [])

    async def test_asked(self) -> None:
        """Servers older than 14 are asked."""
        for server, answers in (
            (self.fake, {"SHOW transaction_read_only": "off", IS_STANDBY: "f"}),
            (self.standby, {"SHOW transaction_read_only": "on", IS_STANDBY: "t"}),
        ):
            self.roles(server, None)
            for said, answer in answers.items():
                server.answers[said] = (
                    fakeserver.row(answer) + fakeserver.complete("SELECT 1") + fakeserver.ready()
                )
        for wanted, host in (
            ("read-write", self.primary_at),
            ("primary", self.primary_at),
            ("read-only", self.standby_at),
            ("prefer-standby", self.standby_at),
        ):
            self.assertEqual(await self.chosen(wanted), host, wanted)

    async def test_silent_about_itself(self) -> None:
        """One that is asked and does not say is not the one."""
        self.roles(self.fake, None)
        for answer in (
            fakeserver.error("42501", "permission denied") + fakeserver.ready(),
            fakeserver.complete("SHOW") + fakeserver.ready(),
        ):
            self.fake.answers["SHOW transaction_read_only"] = answer
            failed = await self.failure(target_session_attrs="read-write")
            assert isinstance(failed, DialError), failed
            self.assertIs(failed.failure, DialFailure.BROKEN)

    async def test_none(self) -> None:
        """No standby: prefer-standby takes what there is, standby says which was what."""
        self.roles(self.standby, "off")
        self.assertEqual(await self.chosen("prefer-standby"), self.standby_at)
        failed = await self.failure(
            target_session_attrs="standby", hosts=(self.primary_at, self.standby_at)
        )
        self.assertIn(f"server {self.standby_at} is no standby", str(failed))
        await until(lambda: self.fake.terminates and self.standby.terminates, "goodbyes")

    async def test_failed_is_tried_last(self) -> None:
        """A host that failed is passed over for a while, and comes back when it is well."""
        nobody = Target("127.0.0.1", 1)
        await self.log_in(hosts=(nobody, self.primary_at))
        del self.dialer.dialled[:]
        for _ in range(2):
            (await self.again()).abort()
        self.assertEqual(self.dialer.dialled, [self.primary_at] * 2)
        self.clock.advance(self.behind.connection.server_times.host_avoided)
        (await self.again()).abort()
        self.assertEqual(self.dialer.dialled[2:], [nobody, self.primary_at])

    async def test_nobody_else_is_left(self) -> None:
        """All have failed: each is tried all the same."""
        nobody, neither = Target("127.0.0.1", 1), Target("127.0.0.1", 2)
        await self.failure(hosts=(nobody, neither))
        del self.dialer.dialled[:]
        try:
            await self.again()
        except DialError:
            self.assertEqual(self.dialer.dialled, [nobody, neither])
        else:
            self.fail("nobody was there")

    async def test_starting_up(self) -> None:
        """A host that is starting up is passed over; if no other is there, that is told."""
        self.standby.login = fakeserver.refusing("57P01", "terminating connection")
        connection = await self.log_in(hosts=(self.standby_at, self.primary_at))
        self.assertEqual(connection.address, self.primary_at)
        connection.abort()
        self.standby.login = fakeserver.refusing("57P03", "the database system is starting up")
        connection = await self.log_in(hosts=(self.standby_at, self.primary_at))
        self.assertEqual(connection.address, self.primary_at)
        connection.abort()
        for hosts in (
            (self.standby_at, Target("127.0.0.1", 1)),
            (Target("127.0.0.1", 1), self.standby_at),
        ):
            failed = await self.failure(hosts=hosts)
            assert isinstance(failed, Refused), failed
            self.assertEqual(failed.error.sqlstate, "57P03")

    async def test_load_balanced(self) -> None:
        """load_balance_hosts=random: not always the first."""
        self.roles(self.standby, "off")
        seen = set()
        for _ in range(64):  # once in 2^63 runs it is the same all the time
            seen.add((await self.balanced()).address)
            if len(seen) == 2:
                break
        self.assertEqual(seen, {self.primary_at, self.standby_at})

    async def balanced(self) -> ServerConnection:
        """A login to any of them."""
        connection = await self.log_in(
            load_balance_hosts="random", hosts=(self.standby_at, self.primary_at)
        )
        connection.abort()
        return connection

    async def again(self) -> ServerConnection:
        """Another login to the same server."""
        return await Deferred.fromCoroutine(self.behind.login(SERVICE, "shop", {}, ANN))


class NameTests(ServerTestCase):
    """What a name stands for may change."""

    async def setUp(self) -> None:
        """Names that stand for what the test says, and the dialer that the daemon has."""
        await super().setUp()
        self.stands_for = "127.0.0.1"
        self.asked: list[str] = []
        self.resolver = Resolver(reactor, look_up=self.look_up)
        self.resolver.startService()
        self.addCleanup(self.resolver.stopService)

    def look_up(self, host: str, port: int) -> list[Address]:
        """Look a name up, in a thread."""
        self.asked.append(host)
        return [Address(socket.AF_INET, self.stands_for, port)]

    async def test_looked_up_anew(self) -> None:
        """
        Each login looks the name up; a cancel request goes where its connection went.

        The certificate must be the name's, whatever it stands for.
        """
        second = FakeServer()
        second.port, second.host = self.fake.port, "127.0.0.2"
        ca = made("test CA", ca=True)
        for server in (self.fake, second):
            server.tls = True
            server.pair = made("x", names=("db.example",), issuer=ca)
        await second.start()
        self.addCleanup(second.stop)
        folder = self.mktemp()
        root, _ = ca.write(folder, "ca")
        dsn = self.dsn(
            hosts=(Target("db.example", self.fake.port),),
            sslmode="verify-full",
            parameters={"sslrootcert": root},
        )
        behind = Server(
            self.connection(dsn=dsn),
            DirectDialer(reactor, self.resolver, 30.0),
            self.link,
            self.clock,
        )
        first = await Deferred.fromCoroutine(behind.login(SERVICE, "shop", {}, ANN))
        self.addCleanup(first.abort)
        self.stands_for = "127.0.0.2"
        other = await Deferred.fromCoroutine(behind.login(SERVICE, "shop", {}, ANN))
        self.addCleanup(other.abort)
        self.assertEqual((first.address.host, other.address.host), ("127.0.0.1", "127.0.0.2"))
        self.assertEqual(self.asked, ["db.example"] * 2)
        await behind.cancel(first)
        self.assertEqual((self.fake.cancels, second.cancels), ([first.pid], []))
        self.assertEqual(self.asked, ["db.example"] * 2)
        second.pair = None
        second._options = None
        try:
            await Deferred.fromCoroutine(behind.login(SERVICE, "shop", {}, ANN))
        except DialError as failed:
            self.assertIs(failed.failure, DialFailure.TLS)
        else:
            self.fail("another name's certificate was believed")

    async def test_address_given(self) -> None:
        """hostaddr: nothing is looked up, and the certificate must still be the name's."""
        ca = made("test CA", ca=True)
        self.fake.tls, self.fake.pair = True, made("x", names=("db.example",), issuer=ca)
        root, _ = ca.write(self.mktemp(), "ca")
        for host, good in (("db.example", True), ("other.example", False)):
            dsn = self.dsn(
                hosts=(Target(host, self.fake.port, "127.0.0.1"),),
                sslmode="verify-full",
                parameters={"sslrootcert": root},
            )
            dialer = DirectDialer(reactor, self.resolver, 30.0)
            behind = Server(self.connection(dsn=dsn), dialer, self.link, self.clock)
            try:
                server = await Deferred.fromCoroutine(behind.login(SERVICE, "shop", {}, ANN))
            except DialError as failed:
                self.assertIs(failed.failure, DialFailure.TLS)
                self.assertFalse(good)
            else:
                await behind.cancel(server)
                server.abort()
                self.assertTrue(good)
        self.assertEqual(self.asked, [])

    async def test_looks_like_loopback(self) -> None:
        """A name that begins as loopback addresses do is not this machine: no hash goes there."""
        self.fake.login = fakeserver.md5
        for host, good in (
            (Target("127.0.0.1.evil.example", self.fake.port), False),
            (Target("db.example", self.fake.port), False),
            (Target("127.0.0.1", self.fake.port), True),
            (Target("db.example", self.fake.port, "127.0.0.1"), True),
        ):
            dsn = self.dsn(hosts=(host,))
            dialer = DirectDialer(reactor, self.resolver, 30.0)
            behind = Server(self.connection(dsn=dsn), dialer, self.link, self.clock)
            logging_in = Deferred.fromCoroutine(behind.login(SERVICE, "shop", {}, ANN))
            try:
                (await logging_in).abort()
            except DialError as failed:
                self.assertIn("neither encrypted nor local", str(failed))
                self.assertFalse(good)
            else:
                self.assertTrue(good)


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

    async def test_storm(self) -> None:
        """So many requests are on their way at most; what is not wanted any more is not sent."""
        self.fake.hold_cancels = True
        connection = await self.log_in()
        wanted = [True] * (CANCELS + 3)
        asking = [
            Deferred.fromCoroutine(self.behind.cancel(connection, lambda n=n: wanted[n]))
            for n in range(len(wanted))
        ]
        await until(lambda: len(self.fake.held) == CANCELS, "all that may")
        wanted[-1] = False
        giving_up = asking[-2]
        giving_up.addErrback(lambda failure: failure.trap(CancelledError))
        giving_up.cancel()
        self.assertEqual(len(self.fake.held), CANCELS)
        self.fake.hold_cancels = False
        self.fake.let_cancels_go()
        await gatherResults(asking)
        self.assertEqual(len(self.fake.cancels), CANCELS + 1)

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
