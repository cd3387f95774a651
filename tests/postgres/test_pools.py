"""Tests for L{proxyd.postgres.pools}."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.secrets import Secret
from proxyd.errors import StartError
from proxyd.postgres.answers import Fatal
from proxyd.postgres.pools import Pools, account_of, accounts_of
from tests.postgres.test_pool import Behind, shop


class PoolsTests(SynchronousTestCase):
    """One pool for each connection and database."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pools = Pools(self.clock, lambda: 0.0)
        self.addCleanup(lambda: self.pools.running and self.pools.stopService())

    def behind(self, **changes: Any) -> Any:
        """A server of memory."""
        return Behind(shop(**changes), self.clock)

    def any_database(self, **changes: Any) -> Any:
        """One whose DSN names no database."""
        behind = self.behind(**changes)
        dsn = behind.connection.dsn
        behind.connection = shop(dsn=type(dsn)(dsn.hosts, "svc", None), **changes)
        return behind

    def serve(self, *servers: Any) -> None:
        """Use these servers."""
        named = {server.connection.name: server for server in servers}
        self.pools.serve(named, accounts_of(named))

    def pass_time(self, seconds: int) -> None:
        """Let time pass."""
        for _ in range(seconds):
            self.clock.advance(1.0)

    def test_same_pool(self) -> None:
        """The same connection and database is the same pool; another database another."""
        server = self.any_database()
        self.serve(server)
        self.assertEqual(list(self.pools), [])
        shop_pool = self.pools.get(server, "shop")
        self.assertIs(self.pools.get(server, "shop"), shop_pool)
        self.assertIsNot(self.pools.get(server, "crm"), shop_pool)
        self.assertEqual(len(list(self.pools)), 2)

    def test_warm_from_the_start(self) -> None:
        """A database that the DSN names is opened before anybody comes."""
        server = self.behind(min_idle_connections=2)
        self.serve(server)
        self.pools.startService()
        self.assertEqual(len(server.logins), 2)

    def test_reopened(self) -> None:
        """New leases come from new connections; who has one keeps it until it is given back."""
        server = self.behind()
        self.serve(server)
        (before,) = self.pools
        leased = before.acquire()
        held = server.let_in()
        self.assertIs(self.successResultOf(leased), held)
        self.pools.reopen()
        (after,) = self.pools
        self.assertIsNot(after, before)
        self.assertIs(before.current, after)
        self.assertFalse(held.end.closed)
        before.give_back(held)
        self.assertTrue(held.said_goodbye)
        self.assertEqual(before.total, 0)
        leased = after.acquire()
        fresh = server.let_in()
        self.assertIs(self.successResultOf(leased), fresh)

    def test_totals(self) -> None:
        """What was counted never becomes less: pools that are gone count on."""
        server = self.any_database()
        self.serve(server)
        self.pools.startService()
        for database in ("shop", "crm"):
            self.pools.get(server, database).counters.opened += 2
        self.assertEqual(self.pools.totals()["shop"].opened, 4)
        self.pools.reopen()
        self.assertEqual(self.pools.totals()["shop"].opened, 4)
        self.pass_time(4000)
        self.assertEqual(list(self.pools), [])
        self.assertEqual(self.pools.totals()["shop"].opened, 4)
        self.serve()
        self.assertEqual(self.pools.totals(), {})

    def test_unused_pool_goes(self) -> None:
        """A pool that a client's name made goes when nobody has used it for long."""
        server = self.any_database(connection_max_idle_time=30.0)
        self.serve(server)
        self.pools.startService()
        pool = self.pools.get(server, "shop")
        pool.clients = 1
        self.pass_time(100)
        self.assertIs(self.pools.get(server, "shop"), pool)
        pool.clients = 0
        self.pass_time(100)
        self.assertEqual(list(self.pools), [])

    def test_unchanged(self) -> None:
        """A reload that changes nothing keeps the pool; new logins go by the new server."""
        before, after = self.behind(), self.behind()
        self.serve(before)
        (pool,) = self.pools
        self.serve(after)
        self.assertEqual(list(self.pools), [pool])
        pool.acquire()
        self.assertEqual((len(before.logins), len(after.logins)), (0, 1))

    def test_new_password(self) -> None:
        """A password that changed in its file or variable is used by the logins that come."""
        environment = {"PASS": "old"}
        password = Secret("env:PASS", environment)
        given: list[object] = []

        class Noting(Behind):
            async def login(self, *who: object) -> Any:
                """Note who logs in."""
                given.append(who[0].password)  # type: ignore[attr-defined]
                return await super().login()

        server: Any = Noting(shop(password=password), self.clock)
        self.serve(server)
        (pool,) = self.pools
        pool.acquire()
        environment["PASS"] = "new"
        self.serve(server)
        pool.acquire()
        self.assertEqual(given, [b"old", b"new"])

    def test_changed(self) -> None:
        """A changed connection gets a new pool; whoever waited waits there."""
        before, after = self.behind(), self.behind(max_open_connections=1)
        self.serve(before)
        (old,) = self.pools
        waiting = old.acquire()
        self.serve(after)
        (new,) = self.pools
        self.assertIsNot(new, old)
        server = after.let_in()
        self.assertIs(self.successResultOf(waiting), server)
        self.assertIs(old.current, new)
        self.assertIs(old.holder_of(server), new)
        self.assertTrue(before.let_in().said_goodbye)

    def test_other_database(self) -> None:
        """A DSN that now names another database leaves no pool at the old one."""
        before, after = self.behind(), self.behind()
        dsn = after.connection.dsn
        after.connection = shop(dsn=type(dsn)(dsn.hosts, "svc", "crm"))
        self.serve(before)
        self.serve(after)
        self.assertEqual([pool.database for pool in self.pools], ["crm"])

    def test_removed(self) -> None:
        """A removed connection turns away whoever waits: its session is over."""
        server = self.behind()
        self.serve(server)
        (pool,) = self.pools
        waiting = pool.acquire()
        self.serve()
        self.assertEqual(self.failureResultOf(waiting, Fatal).value.sqlstate, "57P01")
        self.assertEqual(list(self.pools), [])

    def test_secret_missing(self) -> None:
        """A password that can't be read changes nothing."""
        server = self.behind()
        self.serve(server)
        (pool,) = self.pools
        broken = self.behind(password=Secret("env:NOT_SET", {}), max_open_connections=9)
        self.assertRaises(StartError, self.serve, broken)
        self.assertEqual(list(self.pools), [pool])
        self.assertIs(pool.current, pool)

    def test_stop(self) -> None:
        """At the end all is closed, and no timer is left."""
        server = self.behind(min_idle_connections=1)
        self.serve(server)
        self.pools.startService()
        (pool,) = self.pools
        leased = pool.acquire()
        connection = server.let_in()
        self.successResultOf(leased)
        self.pools.stopService()
        self.assertTrue(connection.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_bad_pool(self) -> None:
        """A pool that fails does not stop the care of the others."""
        self.serve(self.behind(name="bad"), self.behind(name="good", min_idle_connections=1))
        bad, good = self.pools
        bad.tick = lambda now: 1 / 0  # type: ignore[method-assign]
        self.pools.startService()
        self.pass_time(2)
        self.assertEqual(good.total, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_account(self) -> None:
        """The service user is the DSN's, with the connection's password."""
        account = account_of(shop(password=Secret("hush")))
        self.assertEqual((account.user, account.password), ("svc", b"hush"))
        self.assertIsNone(account_of(shop()).password)
