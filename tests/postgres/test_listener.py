"""Tests for L{proxyd.postgres.listener}: who may come in, who is in, how all are sent home."""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory

from twisted.internet import reactor
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel

from proxyd.config.model import Connection, Listener, Log, Postgres
from proxyd.errors import StartError
from proxyd.postgres import listener as listener_module
from proxyd.postgres.directory import Directory
from proxyd.postgres.guesses import FREE, RATE
from proxyd.postgres.listener import PostgresListener
from proxyd.postgres.pools import accounts_of
from tests.postgres.client import Client, until
from tests.postgres.scene import SceneTestCase
from tests.support import pgbytes


class ListenerTestCase(SceneTestCase):
    """A listener that trusts loopback, where not said otherwise."""

    def begin(self, *connections: Connection, **changes: object) -> PostgresListener:
        """Listen."""
        return self.listen(*connections or (self.connection(auth=("trust",)),), **changes)

    async def turned_away(self) -> str:
        """A client that comes now: the SQLSTATE it is told."""
        client = await self.client()
        client.start("ann", "shop")
        return (await client.words())["C"]


class DoorTests(ListenerTestCase):
    """Open, full, shut."""

    async def test_reopened(self) -> None:
        """A transaction goes on while the listening sockets are opened anew, where they were."""
        listener = self.begin()
        addresses = listener.addresses
        client = await self.entered()
        client.send(pgbytes.query("BEGIN"))
        await client.read("Z")
        await listener.reopen()
        self.assertEqual(listener.addresses, addresses)
        await self.entered("bob")
        client.send(pgbytes.query("COMMIT"))
        self.assertEqual((await client.read("Z"))[-1].kind, "Z")
        self.assertEqual(listener.session_count, 2)

    async def test_not_ready(self) -> None:
        """Before the start a client is told to come later."""
        listener = self.begin()
        listener.ready = False
        self.assertEqual(await self.turned_away(), "57P03")
        listener.ready = True
        await self.entered()

    async def test_draining(self) -> None:
        """So is one that comes while the end is near; who was here may finish."""
        listener = self.begin()
        client = await self.entered()
        client.send(pgbytes.query("BEGIN"))
        await client.read("Z")
        drained = listener.drain()
        self.assertEqual(await self.turned_away(), "57P03")
        client.send(pgbytes.query("COMMIT"))
        self.assertEqual(await client.trace("$"), "CZE[57P01]")
        await drained

    async def test_nobody_to_drain(self) -> None:
        """With nobody here a drain is over at once."""
        listener = self.begin()
        self.assertTrue(listener.drain().called)

    async def test_full(self) -> None:
        """At max_clients the next one is told 53300, in words, and gets in when one goes."""
        listener = self.begin(max_clients=2)
        first, _ = await self.entered(), await self.entered()
        self.assertEqual(await self.turned_away(), "53300")
        first.send(pgbytes.TERMINATE)
        await until(lambda: len(list(listener.sessions)) == 1, "one to go")
        await self.entered()

    async def test_waiting_counts_once(self) -> None:
        """Who waits for a server to be let in is one client, not two."""
        listener = self.begin(
            self.connection(auth=("trust",), max_open_connections=1), max_clients=3
        )
        busy = await self.entered()
        busy.send(pgbytes.query("BEGIN"))
        await busy.read("Z")
        client = await self.client()
        client.start("ann", "shop", work_mem="4MB")
        await until(lambda: len(list(listener.sessions)) == 2, "it to wait")
        await self.entered()
        self.assertEqual(await self.turned_away(), "53300")

    async def test_silent_ones_are_not_in_the_way(self) -> None:
        """Sockets that say nothing take nobody's place."""
        self.begin(max_clients=1)
        for _ in range(5):
            await self.client()
        await self.entered()

    async def test_shed(self) -> None:
        """Of too many silent sockets the oldest goes; who has spoken stays."""
        self.patch(listener_module, "SILENT", 3)
        listener = self.begin(self.connection())
        spoken = await self.client()
        spoken.start("ann", "shop")
        await spoken.bytes(9)
        silent = []
        for number in range(5):
            client = await self.client()
            client.send(b"\0")
            silent.append(client)
            await until(lambda number=number: self.seen(number + 2), "the socket")
        await until(lambda: silent[1].ended, "the oldest to go")
        self.assertEqual([client.ended for client in silent], [True, True, False, False, False])
        self.assertFalse(spoken.ended)
        self.assertEqual((listener.shed, len(listener._silent)), (2, 3))

    def seen(self, count: int) -> bool:
        """Whether so many sockets have been accepted in all."""
        assert self.listener is not None
        return len(self.listener._logins) + self.listener.shed >= count

    async def test_flood(self) -> None:
        """A flood of sockets that send one byte and wait keeps no good client out."""
        self.patch(listener_module, "SILENT", 20)
        listener = self.begin(max_clients=5)
        for _ in range(60):
            client = await self.client()
            client.send(b"\0")
        await self.entered()
        await until(lambda: listener.shed >= 40, "the flood to be shed")
        self.assertLessEqual(len(listener._silent), 20)
        self.clock.advance(31.0)
        await until(lambda: not listener._logins, "the rest to be gone at its deadline")

    async def test_stop(self) -> None:
        """At the end sessions are told, sockets are closed, and nobody listens any more."""
        listener = self.begin()
        client, silent = await self.entered(), await self.client()
        await until(lambda: listener._logins, "the silent one")
        await listener.stopService()
        self.assertEqual(await client.trace("$"), "E[57P01]")
        await self.ended(silent)
        self.assertEqual((list(listener.sessions), listener.addresses), ([], []))
        try:
            await Client.connect(self.listening_at)
        except Exception as refused:
            self.assertIn("refused", str(refused))
        else:
            self.fail("somebody listens")

    async def test_taken(self) -> None:
        """A port that is taken is one line."""
        self.begin()
        where = f"127.0.0.1:{self.listening_at}"
        settings = Postgres(listen=(Listener(where, "tcp", "127.0.0.1", self.listening_at),))
        other = PostgresListener(
            reactor, self.link, settings, Log(), None, Directory({}), self.pools
        )
        error = self.assertRaises(StartError, other.open)
        self.assertIn(where, str(error))
        self.assertNotIn("\n", str(error))


class PlacesTests(ListenerTestCase):
    """Where it listens."""

    async def setUp(self) -> None:
        """A folder whose path is short enough for a socket's."""
        await super().setUp()
        self.folder = TemporaryDirectory()

    async def tearDown(self) -> None:
        """The folder goes after the socket in it."""
        try:
            await super().tearDown()
        finally:
            self.folder.cleanup()

    async def test_unix(self) -> None:
        """A UNIX socket is as near as loopback, and has no address."""
        path = os.path.join(self.folder.name, "s")
        places = (
            Listener(f"unix:{path}", "unix", path=path),
            Listener("127.0.0.1:0", "tcp", "127.0.0.1", 0),
        )
        dsn = self.dsn()
        self.fake.passwords["ann"] = b"hush"
        servers = {"shop": self.server(self.connection(dsn=dsn))}
        self.pools.serve(servers, accounts_of(servers))
        self.pools.startService()
        listener = self.listener = PostgresListener(
            reactor,
            self.link,
            Postgres(listen=places),
            Log(),
            None,
            Directory(servers),
            self.pools,
        )
        listener.open()
        listener.startService()
        self.assertEqual(len(listener.addresses), 2)
        client: Client = await UNIXClientEndpoint(reactor, path).connect(
            Factory.forProtocol(Client)
        )
        self.clients.append(client)
        client.start("ann", "shop")
        await client.bytes(9)
        client.password("hush")
        self.assertEqual((await client.read("Z"))[-1].kind, "Z")
        (session,) = listener.sessions
        self.assertEqual(session.principal.source, "unix")


class BooksTests(ListenerTestCase):
    """What it knows of its clients."""

    async def test_sessions(self) -> None:
        """Sessions are numbered, known while they last, and their keys with them."""
        listener = self.begin()
        one, two = await self.entered(), await self.entered("bob")
        found = sorted(listener.sessions, key=lambda session: session.number)
        self.assertEqual([session.principal.user for session in found], ["ann", "bob"])
        self.assertEqual([session.number for session in found], [1, 2])
        self.assertEqual(len(listener.keys), 2)
        one.send(pgbytes.TERMINATE)
        two.reset()
        await until(lambda: not listener.sessions, "both to go")
        self.assertEqual(len(listener.keys), 0)
        self.assertEqual(next(iter(self.pools)).clients, 0)

    async def test_refusals(self) -> None:
        """A refused login is counted, and a line with who, whence and why; never the password."""
        self.fake.passwords["ann"] = b"hush"
        listener = self.begin(self.connection())
        client = await self.client()
        client.start("ann", "shop")
        await client.bytes(9)
        client.password("hush-hush-52")
        self.assertEqual((await client.words())["C"], "28P01")
        self.assertEqual(listener.refusals, 1)
        (line,) = self.logged(LogLevel.warn)
        for part in ("[127.0.0.1:", "[ann]", "28P01"):
            self.assertIn(part, line)
        self.assert_never_told("hush")

    async def test_adopt(self) -> None:
        """Another configuration is for the clients that come from now on."""
        listener = self.begin()
        await self.entered()
        servers = {"crm": self.server(self.connection("crm", auth=("trust",)))}
        self.pools.serve(servers, accounts_of(servers))
        listener.adopt(
            Postgres(listen=listener.settings.listen, max_clients=2),
            Log(statements="on"),
            None,
            Directory(servers),
        )
        self.assertTrue(listener.log_statements)
        await self.entered(database="crm")
        self.assertEqual(await self.turned_away(), "53300")

    async def test_cancel_of_nobody(self) -> None:
        """A cancel request with a made-up key is closed without a word."""
        listener = self.begin()
        client = await self.client()
        client.send(pgbytes.cancel(4711, b"abcd"))
        self.assertEqual(await client.read("$"), [])
        await until(lambda: not listener._logins, "its end")
        self.assertEqual(listener.refusals, 0)

    async def test_wrong_keys(self) -> None:
        """Where many wrong keys came from, the next waits, right or wrong; the log has no key."""
        listener = self.begin()
        busy = await self.entered()
        busy.send(pgbytes.query("SLEEP"))
        await until(lambda: any(b.working for b in self.fake.backends), "the statement")
        wrong = bytes((busy.key[0] ^ 1,)) + busy.key[1:]
        for _ in range(FREE):
            guessing = await self.client()
            guessing.send(pgbytes.cancel(busy.pid, wrong))
            await self.ended(guessing)
        self.assertEqual((listener.guesses.wrong, self.fake.cancels), (FREE, []))
        right = await self.client()
        right.send(pgbytes.cancel(busy.pid, busy.key))
        soon = self.clock.seconds() + 1 / RATE
        await until(
            lambda: any(abs(call.getTime() - soon) < 0.01 for call in self.clock.getDelayedCalls()),
            "the wait",
        )
        self.assertFalse(right.ended or self.fake.cancels)
        self.clock.advance(1.0)
        self.assertIn("E", await busy.trace())
        await self.ended(right)
        (line,) = self.logged(LogLevel.warn)
        self.assertIn("[127.0.0.1] sends one wrong cancel key after the other", line)
        self.assert_never_told(str(busy.pid), busy.key.hex(), wrong.hex(), repr(wrong))

    async def test_stop_stops_statements(self) -> None:
        """What still runs when the listener stops is cancelled at the server first."""
        listener = self.begin()
        client = await self.entered()
        client.send(pgbytes.query("SLEEP"))
        await until(lambda: any(b.working for b in self.fake.backends), "the statement")
        await listener.stopService()
        self.assertEqual((await client.words())["C"], "57P01")
        self.assertEqual(len(self.fake.cancels), 1)
