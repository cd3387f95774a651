"""Tests for L{proxyd.postgres.doctor}, on a real server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from proxyd.config.model import AwsIam, Connection, Dsn
from proxyd.dial.direct import DirectDialer
from proxyd.interfaces import ITokenSource
from proxyd.net.link import Link
from proxyd.net.resolver import Resolver
from proxyd.postgres.doctor import Doctor, Patient, examine, idle_finding
from proxyd.postgres.pool import Pool
from proxyd.postgres.pools import Pools
from proxyd.postgres.server import Account, Server
from proxyd.target import Finding, Target
from tests.postgres.client import until
from tests.support.database import DATABASE, SERVICE, shared_database

reactor: Any = _reactor


@implementer(ITokenSource)
class Source:
    """Gives one password, and has one finding."""

    clear_text = False

    def __init__(self, password: str) -> None:
        self.made = 0
        self.password = password

    def token_for(self, host: str, port: int) -> Deferred[bytes]:
        """The password."""
        self.made += 1
        return succeed(self.password.encode())

    def refused(self) -> Deferred[bool]:
        """There is no other."""
        return succeed(False)

    def examine(self) -> Deferred[Sequence[Finding]]:
        """All is well."""
        return succeed([Finding("AWS credentials", True, "good")])


class Silent(Factory):
    """A server that says nothing."""

    def __init__(self) -> None:
        self.clients: list[Any] = []

    def buildProtocol(self, addr: object) -> Protocol:
        """One more client."""
        self.clients.append(Protocol())
        return self.clients[-1]


class ExamineTests(TestCase):
    """What a DBA would look at, one after the other."""

    def setUp(self) -> None:
        self.database = shared_database()
        self.link = Link(reactor, reactor, 1.0)
        self.resolver = Resolver(reactor)
        self.resolver.startService()  # type: ignore[no-untyped-call]
        self.link.start()
        self.addCleanup(self.resolver.stopService)
        self.addCleanup(self.link.stop)

    def patient(self, password: str | None = None, **changes: Any) -> Patient:
        """A connection at the real server, by a token that is a password."""
        where = Target(self.database.host, self.database.port)
        dsn = Dsn((where,), SERVICE, DATABASE, "require")
        connection = replace(
            Connection(DATABASE, dsn, aws_iam_auth=AwsIam(), connection_max_lifetime=840.0),
            **changes,
        )
        source = Source(password or self.database.passwords[SERVICE])
        verifyObject(ITokenSource, source)
        dialer = DirectDialer(reactor, self.resolver, 30.0)
        server = Server(connection, dialer, self.link, reactor)
        self.addCleanup(server._deadlines.stop)
        return Patient(server, Account(SERVICE, None, source=source), ())

    async def findings(self, patient: Patient) -> dict[str, Finding]:
        """By what was looked at."""
        return {finding.check: finding for finding in await examine(patient, reactor)}

    async def test_good(self) -> None:
        """Everything is in order, but that this server is no RDS."""
        found = await self.findings(self.patient())
        self.assertEqual(
            {check: finding.good for check, finding in found.items()},
            {
                "lifetimes": True,
                "AWS credentials": True,
                "login": True,
                "identity": True,
                "rds_iam": None,
                "idle connections": True,
            },
        )
        self.assertRegex(
            found["identity"].what, rf"as {SERVICE}, at its \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"
        )

    async def test_grant(self) -> None:
        """A user without the role rds_iam: the statement that gives it."""
        with self.database.admin() as admin:
            admin.query("CREATE ROLE rds_iam")
            self.addCleanup(self.run_admin, "DROP ROLE rds_iam")
        found = await self.findings(self.patient())
        self.assertFalse(found["rds_iam"].good)
        self.assertEqual(found["rds_iam"].remedy, f'GRANT rds_iam TO "{SERVICE}";')
        self.run_admin(f"GRANT rds_iam TO {SERVICE}")
        self.assertTrue((await self.findings(self.patient()))["rds_iam"].good)

    def run_admin(self, statement: str) -> None:
        """As the superuser."""
        with self.database.admin() as admin:
            admin.query(statement)

    async def test_refused(self) -> None:
        """The server does not take it: its words and the remedy, and no more questions."""
        found = await self.findings(self.patient("wrong"))
        self.assertEqual(list(found), ["lifetimes", "AWS credentials", "login"])
        self.assertFalse(found["login"].good)
        self.assertIn("password authentication failed", found["login"].what)
        self.assertIn("GRANT rds_iam TO", found["login"].remedy)
        patient = self.patient(aws_iam_auth=None)
        for sqlstate, user, password in (("28P01", SERVICE, b"wrong"), ("28P01", "nobody", b"x")):
            account = Account(user, password)
            login = (await self.findings(replace(patient, account=account)))["login"]
            self.assertIn(sqlstate, login.what)
            self.assertIn("password of this connection", login.remedy)

    async def test_unreachable(self) -> None:
        """Nobody is there."""
        patient = self.patient(dsn=Dsn((Target("127.0.0.1", 1),), SERVICE, DATABASE, "require"))
        login = (await self.findings(patient))["login"]
        self.assertFalse(login.good)
        self.assertIn("connection refused", login.what)

    async def test_old_connections(self) -> None:
        """An idle connection that is older than any may be."""
        with self.database.direct() as old:
            old.query("SELECT 1")
            # A lifetime in the past: every connection is too old.
            found = await self.findings(self.patient(connection_max_lifetime=-40.0))
        idle = found["idle connections"]
        self.assertFalse(idle.good)
        self.assertIn("restart", idle.remedy)

    def test_old_but_leased(self) -> None:
        """One that a client has is never cut for its age, however idle the client is."""
        for number, leased, good in ((0, 0, True), (2, 2, True), (1, 2, True), (3, 2, False)):
            finding = idle_finding("svc", 900.0, number, 2000, leased)
            self.assertIs(finding.good, good, (number, leased))
            self.assertEqual("in use by clients" in finding.what, bool(number and good))

    async def test_side_by_side(self) -> None:
        """Servers that don't answer are waited for together, and told of in their order."""
        silent = Silent()
        port = reactor.listenTCP(0, silent, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        names = [f"s{number}" for number in range(6)]
        servers, accounts = {}, {}
        for name in names:
            dsn = Dsn((Target("127.0.0.1", port.getHost().port),), SERVICE, None, "disable")
            patient = self.patient(name=name, dsn=dsn, min_idle_connections=0, aws_iam_auth=None)
            servers[name], accounts[name] = patient.server, Account(SERVICE, b"x")
        pools = Pools(reactor, lambda: 0.0)
        self.addCleanup(pools.stopService)
        pools.serve(servers, accounts)
        examining = Deferred.fromCoroutine(Doctor(pools, reactor).examine())
        await until(lambda: len(silent.clients) == len(names), "all logins at once")
        for client in silent.clients:
            client.transport.abortConnection()
        found = await examining
        logins = [(name, one.good) for name, one in found if one.check == "login"]
        self.assertEqual(logins, [(name, False) for name in names])

    async def test_lifetimes(self) -> None:
        """A lifetime beyond a token's, and an idle time that never comes."""
        found = await self.findings(self.patient(connection_max_lifetime=900.0))
        self.assertFalse(found["lifetimes"].good)
        found = await self.findings(self.patient(connection_max_idle_time=1000.0))
        self.assertTrue(found["lifetimes"].good)
        self.assertIn("never comes", found["lifetimes"].what)

    async def test_all_connections(self) -> None:
        """The doctor goes through what the pools serve, or one of it; a name of none is told."""
        patient = self.patient(min_idle_connections=0)
        pools = Pools(reactor, lambda: 0.0)
        self.addCleanup(pools.stopService)
        pools.serve({DATABASE: patient.server}, {DATABASE: patient.account})
        doctor = Doctor(pools, reactor)
        for name in (None, DATABASE):
            found = await doctor.examine(name)
            self.assertEqual({one for one, _ in found}, {DATABASE})
            self.assertIn("renewal", [finding.check for _, finding in found])
        ((name, finding),) = await doctor.examine("nobody")
        self.assertEqual((name, finding.good), ("nobody", False))

    async def test_renewal(self) -> None:
        """Whether connections are closed in time: too early to say, seen, and not done."""
        patient = self.patient(min_idle_connections=1)
        pool = Pool(patient.server, patient.account, DATABASE, reactor, lambda: 0.0, True)
        self.addCleanup(pool.abort)
        server = await pool.acquire()
        pool.give_back(server)
        patient = replace(patient, pools=(pool,))
        self.assertIsNone((await self.findings(patient))["renewal"].good)
        server.created -= 1000
        self.assertFalse((await self.findings(patient))["renewal"].good)
        pool.counters.max_lifetime_closed = 3
        self.assertTrue((await self.findings(patient))["renewal"].good)
