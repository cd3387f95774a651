"""Tests for L{proxyd.postgres.leasing}: how a session gets its server, and what that one does."""

from __future__ import annotations

from typing import Any

from tests.postgres.client import Client, until
from tests.postgres.fakeserver import row
from tests.postgres.sessions import SessionTestCase
from tests.support import pgbytes


class ServerTests(SessionTestCase):
    """What a server does to a session."""

    async def test_fatal(self) -> None:
        """A server's FATAL reaches the client once, and is the last word."""
        self.begin()
        client = await self.busy()
        self.fake.backends[0].fatal("57P01", "terminating connection")
        self.assertEqual(await client.trace("$"), "E[57P01]")
        await self.at_peace()

    async def test_dies(self) -> None:
        """A server that dies in a statement: 08006, and nothing is tried again."""
        self.begin()
        client = await self.entered()
        self.assertEqual(await self.asked(client, "DIE"), "E[08006]")
        await self.ended(client)
        await self.at_peace()
        self.assertEqual(len(self.fake.startups), 1)

    async def test_dies_in_a_row(self) -> None:
        """In the middle of a message nothing can be said: the connection breaks."""
        self.begin()
        client = await self.entered()
        client.send(pgbytes.query("HALF"))
        await until(lambda: len(client.received) > 50, "half a row")
        self.fake.backends[0].reset()
        await self.ended(client)
        self.assertNotIn(b"08006", client.received)

    async def test_speaks_nonsense(self) -> None:
        """A server that breaks the protocol is no longer believed."""
        self.begin()
        self.fake.answers["odd"] = row("x") + b"\x07nonsense"
        client = await self.entered()
        client.send(pgbytes.query("odd"))
        await self.ended(client)
        self.assertNotIn(b"nonsense", client.received)
        await until(lambda: not self.fake.backends, "the server to be closed")

    async def test_died_before_the_first_message(self) -> None:
        """A server that died while nobody used it is replaced unseen."""
        await self.begin_warm()
        client = await self.entered()
        (backend,) = self.fake.backends
        backend.fatal()
        await until(lambda: backend.over, "its end")
        self.assertEqual(await self.asked(client, "one"), "TDCZ")

    async def test_error_keeps_session(self) -> None:
        """An error of a statement's is passed on, and the session goes on."""
        self.begin()
        client = await self.entered()
        self.assertEqual(await self.asked(client, "BAD"), "E[42601]Z")
        self.assertEqual(await self.asked(client, "one"), "TDCZ")

    async def test_can_not_be_reached(self) -> None:
        """A server that is down when the first message comes is 08001."""
        await self.begin_warm()
        client = await self.entered()
        other = await self.entered()
        await self.fake.stop()
        await until(lambda: not self.pool_here.total, "the pool to notice")
        self.assertEqual(await self.asked(client, "one"), "E[08001]")
        other.send(pgbytes.query("one"))
        await until(lambda: self.pool_here.waiting, "it to wait for the next attempt")
        self.clock.advance(1.0)
        self.assertEqual(await other.trace(), "E[08001]")

    async def test_role_refused(self) -> None:
        """Where the role can't be had the statement is not run without it."""
        self.begin(identity="set_role")
        client = await self.entered(user="ann")
        self.assertEqual(await self.asked(client, "one"), "TDCZ")
        other = await self.client()
        other.start("bad", "shop")
        await until(lambda: other.received, "an answer")
        other.send(pgbytes.query("delete everything"))
        self.assertIn("E[22023]", await other.trace("$"))
        for backend in self.fake.backends:
            self.assertNotIn("delete everything", backend.queries)


class QueueTests(SessionTestCase):
    """Waiting for a server."""

    async def begin_full(self, **changes: Any) -> tuple[Client, Client]:
        """A pool of one, which somebody has; and a client that is in."""
        self.begin(max_open_connections=1, **changes)
        busy = await self.busy()
        return busy, await self.entered()

    async def waits(self, client: Client, said: bytes) -> None:
        """The client asks, and waits for a server."""
        client.send(said)
        await until(lambda: self.pool_here.waiting, "it to wait")

    async def test_in_turn(self) -> None:
        """Who waits is served when the one before is done."""
        busy, client = await self.begin_full()
        await self.waits(client, pgbytes.query("one"))
        busy.send(pgbytes.TERMINATE)
        self.assertEqual(await client.trace(), "TDCZ")

    async def test_timeout(self) -> None:
        """After acquire_timeout it is 53300, FATAL."""
        _, client = await self.begin_full(acquire_timeout=30.0)
        await self.waits(client, pgbytes.query("one"))
        self.clock.advance(31.0)
        fields = await client.words()
        self.assertEqual((fields["C"], fields["V"]), ("53300", "FATAL"))
        self.assertTrue(fields["H"])

    async def test_cancelled(self) -> None:
        """A waiting statement is cancelled with 57014, unheard by a server; the session goes on."""
        busy, client = await self.begin_full()
        await self.waits(client, pgbytes.query("one"))
        await self.cancel(client)
        self.assertEqual(await client.trace(), "E[57014]Z")
        self.assertEqual((self.pool_here.waiting, self.fake.cancels), (0, []))
        await self.waits(client, pgbytes.query("two"))
        busy.send(pgbytes.TERMINATE)
        self.assertEqual(await client.trace(), "TDCZ")
        self.assertNotIn("one", self.fake.backends[0].queries)

    async def test_cancelled_batch(self) -> None:
        """An extended batch is skipped up to its Sync, which may come later."""
        busy, client = await self.begin_full()
        await self.waits(client, pgbytes.extended("INSERT"))
        await self.cancel(client)
        self.assertEqual(await client.trace("E"), "E[57014]")
        client.send(pgbytes.extended("INSERT") + pgbytes.SYNC + pgbytes.query("two"))
        self.assertEqual(await client.trace(), "Z")
        await until(lambda: self.pool_here.waiting, "the next one to wait")
        busy.send(pgbytes.TERMINATE)
        self.assertEqual(await client.trace(), "TDCZ")
        self.assertEqual(self.fake.committed, [])

    async def test_cancelled_and_goes(self) -> None:
        """A goodbye behind the cancelled statement is one."""
        _, client = await self.begin_full()
        await self.waits(client, pgbytes.query("one") + pgbytes.TERMINATE)
        await self.cancel(client)
        self.assertEqual((await client.trace("$"))[:8], "E[57014]")

    async def test_gone(self) -> None:
        """Who is lost while waiting gives up its place."""
        _, client = await self.begin_full()
        await self.waits(client, pgbytes.query("one"))
        client.reset()
        await until(lambda: not self.pool_here.waiting, "it to give up")
