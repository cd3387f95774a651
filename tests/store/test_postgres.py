"""
Tests of L{proxyd.store.postgres}, on a real server.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.trial.unittest import TestCase

from proxyd.errors import StartError
from proxyd.interfaces import IStore
from proxyd.net.clock import WallClock
from proxyd.records import Change, Kind, StoreLost
from proxyd.store.postgres import PostgresStore
from tests.postgres.client import until
from tests.store.contract import NOW, StoreContract, a_token
from tests.support.database import SERVICE, shared_database

DEADLINE = 60.0
POLL = 0.05


def fresh_database() -> str:
    """An empty database; its DSN, with the password."""
    database = shared_database()
    name = "state"
    with database.admin("postgres") as admin:
        if not admin.query(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            admin.query(f"CREATE DATABASE {name} OWNER {SERVICE}")
        admin.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        admin.query(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
            f"WHERE datname = '{name}'"
        )
    with database.admin(name) as admin:
        admin.query("DROP SCHEMA IF EXISTS proxyd CASCADE")
    password = database.passwords[SERVICE]
    return f"postgresql://{SERVICE}:{password}@{database.host}:{database.port}/{name}"


class PostgresStoreTests(StoreContract):
    """The shared store keeps the contract."""

    def make(self) -> IStore:
        """A fresh database."""
        return PostgresStore(reactor, fresh_database(), DEADLINE, POLL)


del StoreContract


class SharedTests(TestCase):
    """Nodes that share a database."""

    def setUp(self) -> None:
        self.dsn = fresh_database()

    def node(self, poll: float = POLL) -> PostgresStore:
        """A node; not opened."""
        store = PostgresStore(reactor, self.dsn, DEADLINE, poll)
        self.addCleanup(store.close)
        return store

    def hearing(self, store: PostgresStore) -> list[Change]:
        """What it is told."""
        changes: list[Change] = []
        store.watch(changes.append)
        return changes

    async def test_together(self) -> None:
        """Three that start at once make the tables once, and hear of each other's changes."""
        nodes = [self.node() for _ in range(3)]
        await gatherResults([node.open() for node in nodes])
        heard = [self.hearing(node) for node in nodes]
        record = a_token("t", "o")
        await nodes[0].add_token(record)
        change = Change(Kind.TOKEN, ("", "t"), record)
        for told in heard:
            await until(lambda told=told: change in told, "the change")
        await nodes[1].revoke_token("", "t", NOW)
        for told in heard:
            await until(lambda told=told: len(told) == 2, "the revocation")
            assert told[1].record is not None

    async def test_clock_ahead(self) -> None:
        """A node that thinks it is next year forgets no token that is good for the others."""
        store = self.node()
        await store.open()
        now = int(WallClock(reactor).seconds())
        young = replace(a_token("t", "o"), issued_at=now, expires_at=now + 86400)
        await store.add_token(young)
        await store.add_token(a_token("t2", "o"))
        self.assertEqual(await store.remove_expired(now + 365 * 86400), 1)
        self.assertEqual(await store.tokens(), [young])

    async def test_by_notification(self) -> None:
        """A change is heard of without any poll."""
        first, second = self.node(), self.node(poll=3600)
        await first.open()
        await second.open()
        heard = self.hearing(second)
        await first.add_token(a_token("t", "o"))
        await until(lambda: heard, "the change")

    def terminate(self, what: str) -> int:
        """End the connections that did this last."""
        with shared_database().admin() as admin:
            name = self.dsn.rpartition("/")[2]
            found = admin.value(
                "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity "
                f"WHERE datname = '{name}' AND query LIKE '{what}' AND pid <> pg_backend_pid()"
            )
        return int(found or 0)

    async def deafen(self, store: PostgresStore) -> None:
        """End a node's listening, so that only looking tells it what is new."""
        store._listening.stop()
        thread = store._listening._thread
        assert thread is not None
        await until(lambda: not thread.is_alive(), "the listening thread's end")
        await store.tokens()
        await until(lambda: not store._asking, "its last look")

    async def test_listener_lost(self) -> None:
        """What is missed while the listening connection is lost is found by the poll."""
        first, second = self.node(), self.node()
        await first.open()
        await second.open()
        await self.deafen(second)
        heard = self.hearing(second)
        await first.add_token(a_token("t", "o"))
        await until(lambda: heard, "the change")

    async def test_listens_again(self) -> None:
        """A listening connection that was cut is made anew."""
        first, second = self.node(), self.node(poll=3600)
        await first.open()
        await second.open()
        heard = self.hearing(second)
        self.assertGreater(self.terminate("%"), 0)
        await first.add_token(a_token("t", "o"))
        await until(lambda: heard, "the change")

    async def test_connection_cut(self) -> None:
        """A cut connection is made anew; the next call is answered."""
        store = self.node(poll=3600)
        await store.open()
        await store.add_token(a_token("t", "o"))
        self.assertGreater(self.terminate("%"), 0)
        self.assertEqual(len(await store.tokens()), 1)

    async def test_silent(self) -> None:
        """How long the store has been silent is known; when it answers again, too."""
        store = self.node()
        self.assertEqual(store.silent_for(), float("inf"))
        await store.open()
        self.assertLess(store.silent_for(), 30)
        name = self.dsn.rpartition("/")[2]
        with shared_database().admin("postgres") as admin:
            admin.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            self.terminate("%")
            await until(lambda: store.silent_for() > 0.3, "silence")
            await self.assertFailure(store.tokens(), StoreLost)
            admin.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await until(lambda: store.silent_for() < 0.3, "an answer")

    async def test_hanging(self) -> None:
        """A call that hangs is given up, and the next one is answered."""
        store = PostgresStore(reactor, self.dsn, 0.5, 3600)
        self.addCleanup(store.close)
        await store.open()
        with shared_database().admin(self.dsn.rpartition("/")[2]) as admin:
            admin.query("BEGIN; LOCK TABLE proxyd.state")
            await self.assertFailure(store.add_token(a_token("t", "o")), StoreLost)
            admin.query("ROLLBACK")
        answered: Deferred[list[object]] = store.tokens()  # type: ignore[assignment]
        self.assertEqual(await answered, [])

    async def test_cut_while_reading(self) -> None:
        """A connection that is cut between the news and what they are about costs no news."""
        first, second = self.node(), self.node(poll=3600)
        await first.open()
        await second.open()
        await self.deafen(second)
        heard = self.hearing(second)
        await first.add_token(a_token("t", "o"))
        with shared_database().admin(self.dsn.rpartition("/")[2]) as admin:
            admin.query("BEGIN; LOCK TABLE proxyd.tokens")
            second._poll()
            await until(lambda: self.terminate("SELECT token_id%"), "the look's connection")
            admin.query("ROLLBACK")
        await until(lambda: not second._asking, "the end of the look")
        second._poll()
        await until(lambda: heard, "the change")

    async def test_missed_too_much(self) -> None:
        """A node that slept for longer than changes are kept reads all again."""
        first, second = self.node(), self.node(poll=3600)
        await first.open()
        await second.open()
        await self.deafen(second)
        await first.add_token(a_token("t", "o"))
        with shared_database().admin(self.dsn.rpartition("/")[2]) as admin:
            admin.query("UPDATE proxyd.changes SET at = at - interval '2 hours'")
        await first.add_token(a_token("t2", "o"))
        heard = self.hearing(second)
        second._poll()
        await until(lambda: heard, "news")
        self.assertEqual([one.kind for one in heard], [Kind.ALL])

    async def test_another_server(self) -> None:
        """A standby that took over may lack what was seen, and count anew: all is read again."""
        first, second = self.node(poll=3600), self.node(poll=3600)
        await first.open()
        await second.open()
        await self.deafen(second)
        await first.add_token(a_token("t", "o"))
        second._poll()
        await until(lambda: not second._asking, "the end of a look")
        heard = self.hearing(second)
        # The last change is lost, and another has its number.
        with shared_database().admin(self.dsn.rpartition("/")[2]) as admin:
            admin.query("DELETE FROM proxyd.tokens; DELETE FROM proxyd.changes")
            admin.query("UPDATE proxyd.state SET revision = revision - 1")
        await first.add_token(a_token("t2", "o"))
        self.terminate("%")
        second._poll()
        await until(lambda: heard, "news")
        self.assertEqual([one.kind for one in heard], [Kind.ALL])

    async def test_counts_backwards(self) -> None:
        """Where the store knows less than was seen already, all is read again."""
        store = self.node(poll=3600)
        await store.open()
        await self.deafen(store)
        await store.add_token(a_token("t", "o"))
        heard = self.hearing(store)
        with shared_database().admin(self.dsn.rpartition("/")[2]) as admin:
            admin.query("UPDATE proxyd.state SET revision = revision - 1")
        store._poll()
        await until(lambda: heard, "news")
        self.assertEqual([one.kind for one in heard], [Kind.ALL])

    async def test_missed_and_not_read(self) -> None:
        """Until those who watch have read all again it is told again, and counts as not heard."""
        store = self.node(poll=3600)
        await store.open()
        read: Deferred[None] = Deferred()
        answers: list[Deferred[None]] = [fail(StoreLost("on purpose")), read]
        heard: list[Change] = []

        def watch(change: Change) -> Deferred[None]:
            heard.append(change)
            return answers[len(heard) - 1]

        store.watch(watch)
        await self.deafen(store)
        store._missed = True
        for times in (1, 2):
            store._poll()
            await until(lambda times=times: len(heard) == times, "news")
            await until(lambda: not store._asking, "the end of a look")
            self.assertTrue(store._behind)
        before = store._heard_at
        store._poll()
        await until(lambda: not store._asking, "the end of a look")
        self.assertEqual((store._heard_at, len(heard)), (before, 2))
        read.callback(None)
        self.assertFalse(store._behind)
        self.assertNotEqual(store._heard_at, before)
        self.assertEqual({change.kind for change in heard}, {Kind.ALL})

    async def test_newer(self) -> None:
        """A store of a newer version is left alone."""
        first = self.node()
        await first.open()
        with shared_database().admin(self.dsn.rpartition("/")[2]) as admin:
            admin.query("UPDATE proxyd.schema_version SET version = 99")
        error = await self.assertFailure(self.node().open(), StartError)
        self.assertIn("its version is 99", str(error))

    async def test_out_of_reach(self) -> None:
        """A store that is not there is one line without the password."""
        self.dsn = self.dsn.rpartition("/")[0] + "/nowhere"
        error = await self.assertFailure(self.node().open(), StartError)
        self.assertIn("nowhere", str(error))
        self.assertNotIn("\n", str(error))
        self.assertNotIn(shared_database().passwords[SERVICE], str(error))
