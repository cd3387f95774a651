"""Tests for L{proxyd.ctl.servers} and L{proxyd.postgres.probe}, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from demo.binaries import NoServer
from demo.cluster import Cluster
from proxyd.config.model import Config, Connection, Dsn
from proxyd.config.secrets import Secret
from proxyd.config.ways import Upstream
from proxyd.ctl.live import Finding, check_servers
from proxyd.rules.patterns import pattern
from proxyd.rules.routes import Rule
from proxyd.target import Target

PASSWORD = "a password of the test"


class LiveServerTests(SynchronousTestCase):
    """What C{check --live} says of servers."""

    def setUp(self) -> None:
        """A server that trusts one user's connections."""
        self.cluster = Cluster(hba=["host all trusted 127.0.0.1/32 trust"])
        try:
            self.cluster.start()
        except NoServer as error:
            raise SkipTest(str(error)) from None
        self.addCleanup(self.cluster.stop)
        for name in ("svc", "trusted"):
            self.cluster.psql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")

    def found(self, user: str, password: str, parameters: Mapping[str, str] = {}) -> list[Finding]:
        """What is found at the server, for a connection of this user."""
        dsn = Dsn(
            (Target(self.cluster.host, self.cluster.port),),
            user=user,
            database=None,
            sslmode="prefer",
            parameters=parameters,
        )
        connection = Connection("shop", dsn, Secret(password, literal=True))
        return check_servers(Config(connections={"shop": connection}))

    def test_findings(self) -> None:
        """
        A server that is as it should be gives no finding; a service user that is
        refused fails with the server's words, one that is a superuser is worth a
        warning, and a server that asks nobody for a password can't check a client's.
        """
        self.assertEqual(self.found("svc", PASSWORD), [])
        (refused,) = self.found("svc", "wrong")
        self.assertTrue(refused.failed)
        self.assertIn("the service user was refused: 28P01", str(refused))
        (superuser,) = self.found(self.cluster.superuser, self.cluster.password)
        self.assertFalse(superuser.failed)
        self.assertIn("is a superuser", superuser.what)
        (trusting,) = self.found("trusted", PASSWORD)
        self.assertTrue(trusting.failed)
        self.assertIn("pg_hba.conf trusts this address", trusting.what)


class UnreachableTests(SynchronousTestCase):
    """Without a server."""

    def test_unreachable(self) -> None:
        """A server that is not there fails."""
        dsn = Dsn((Target("127.0.0.1", 1),), user="svc")
        (finding,) = check_servers(Config(connections={"shop": Connection("shop", dsn)}))
        self.assertEqual((finding.failed, finding.what), (True, "127.0.0.1:1: connection refused"))

    def test_elsewhere(self) -> None:
        """One behind an upstream is not tried from here: by `via`, or where a route says so."""
        behind = Dsn((Target("192.0.2.1", 5432),), user="svc")
        rule = Rule((pattern("192.0.2.0/24"),), "jump", number=1)
        jump = Upstream("jump", hosts=(Target("127.0.0.1", 1),))
        for connection, routes in (
            (Connection("shop", behind, via="jump"), ()),
            (Connection("shop", behind), (rule,)),
            (Connection("shop", Dsn((Target("127.0.0.1", 1),), user="svc"), via="jump"), ()),
        ):
            config = Config(
                connections={"shop": connection}, upstreams={"jump": jump}, routes=routes
            )
            (finding,) = check_servers(config)
            self.assertFalse(finding.failed, finding)
            self.assertIn("it goes by the upstream jump", finding.what)

    def test_denied(self) -> None:
        """Where a route denies it, that is said, and nothing is sent."""
        rule = Rule((pattern("192.0.2.0/24"),), None, number=1)
        dsn = Dsn((Target("192.0.2.1", 5432),), user="svc")
        config = Config(connections={"shop": Connection("shop", dsn)}, routes=(rule,))
        (finding,) = check_servers(config)
        self.assertTrue(finding.failed)
        self.assertIn("route 1 (192.0.2.0/24) denies it", finding.what)
