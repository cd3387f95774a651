"""
Tests of L{proxyd.postgres.farewell}: sessions whose token is revoked, by real sockets.
"""

from __future__ import annotations

from proxyd.auth.tokens import Tokens
from proxyd.config.times import SessionTimes
from proxyd.postgres.client_session import ClientSession
from proxyd.records import IssuedToken
from tests.postgres.client import Client, until
from tests.postgres.fakeserver import message
from tests.postgres.sessions import SessionTestCase
from tests.support import pgbytes

GONE = "E[57P01]"


class RevokedTests(SessionTestCase):
    """A client that came by a token, which is revoked."""

    async def setUp(self) -> None:
        """Listen, with a pool that has learnt its parameters."""
        await super().setUp()
        self.listen(self.connection(auth=("token",), max_open_connections=2))
        assert self.listener is not None and isinstance(self.listener.tokens, Tokens)
        self.tokens = self.listener.tokens
        self.issued: IssuedToken = await self.tokens.issue("shop")
        client = await self.let_in()
        client.send(pgbytes.TERMINATE)
        await self.ended(client)
        await self.at_peace()

    async def let_in(self) -> Client:
        """A client that has logged in by the token."""
        client = await self.client()
        client.start("token", "shop")
        await client.read("R")
        client.password(self.issued.token)
        await client.read("Z")
        return client

    @property
    def session(self) -> ClientSession:
        """The one session there is."""
        assert self.listener is not None
        (session,) = self.listener.sessions
        return session

    async def revoke(self) -> None:
        """Revoke the token; the sessions are gone at once, whatever becomes of the clients."""
        await self.tokens.revoke(self.issued.token_id)
        assert self.listener is not None
        self.assertEqual(list(self.listener.sessions), [])

    def no_time_left(self) -> None:
        """Let the time pass that a client has to hear why."""
        self.clock.advance(SessionTimes().farewell)

    async def test_idle(self) -> None:
        """An idle client is told; nobody comes in by that token any more."""
        client = await self.let_in()
        await self.revoke()
        self.assertEqual(await client.trace("$"), GONE)
        again = await self.client()
        again.start("token", "shop")
        await again.read("R")
        again.password(self.issued.token)
        self.assertEqual(await again.trace("$"), "E[28000]")

    async def test_waiting(self) -> None:
        """One that waits for a server is told, and its place in the queue is free."""
        holders = [await self.let_in() for _ in range(2)]
        for holder in holders:
            self.assertEqual(await self.asked(holder, "BEGIN"), "CZ")
        client = await self.let_in()
        client.send(pgbytes.query("one"))
        await until(lambda: self.pool_here.waiting == 1, "the queue")
        await self.revoke()
        for one in (client, *holders):
            self.assertEqual(await one.trace("$"), GONE)
        self.assertEqual(self.pool_here.waiting, 0)

    async def test_in_a_query(self) -> None:
        """A running statement is cancelled at the server, which is used again."""
        client = await self.let_in()
        client.send(pgbytes.query("SLEEP"))
        await until(lambda: any(b.working for b in self.fake.backends), "the statement")
        await self.revoke()
        self.assertEqual(await client.trace("$"), GONE)
        await self.at_peace()
        self.assertFalse(any(backend.working for backend in self.fake.backends))

    async def test_in_a_copy(self) -> None:
        """A client in the middle of a COPY is told; its server gets no CopyDone."""
        client = await self.let_in()
        client.send(pgbytes.query("COPY"))
        await client.read("G")
        client.send(pgbytes.message("d", b"1\n"))
        await self.revoke()
        self.assertEqual(await client.trace("$"), GONE)
        await self.at_peace()
        said = [kind for backend in self.fake.backends for kind, _ in backend.said]
        self.assertNotIn("c", said)

    async def half_a_row(self, size: int = 1000) -> tuple[Client, bytes]:
        """A client that has got half of a row, and the other half."""
        client = await self.let_in()
        client.send(pgbytes.query("SLEEP"))
        await until(lambda: any(b.working for b in self.fake.backends), "the statement")
        (backend,) = [one for one in self.fake.backends if one.working]
        row = message(b"D", b"x" * size)
        self.backend = backend
        backend.write(row[: size // 2])
        await until(lambda: len(client.received) >= size // 2, "half a row")
        return client, row[size // 2 :]

    async def test_within_a_message(self) -> None:
        """A message under way is finished, and the error comes behind it, not within."""
        client, rest = await self.half_a_row()
        await self.revoke()
        self.backend.write(rest + message(b"D", b"never seen") * 3)
        messages = await client.read("$")
        self.assertEqual("".join(one.kind for one in messages), "DE")
        self.assertEqual(messages[0].body, b"x" * 1000)
        self.assertEqual(messages[1].fields()["C"], "57P01")
        await self.at_peace()
        self.assertEqual(self.pool_here.total, 0)
        self.assertEqual(self.seeing_off(), 0)

    def seeing_off(self) -> int:
        """How many are being seen off."""
        assert self.listener is not None
        return len(self.listener._farewells)

    async def test_a_message_without_end(self) -> None:
        """Where the rest does not come in time, the client is cut off."""
        client, _ = await self.half_a_row()
        await self.revoke()
        self.assertFalse(client.ended)
        self.no_time_left()
        await until(lambda: client.ended, "the client to be cut off")
        self.assertEqual(self.seeing_off(), 0)

    async def test_server_lost_meanwhile(self) -> None:
        """A server that is lost in the middle ends it."""
        client, _ = await self.half_a_row()
        await self.revoke()
        self.backend.reset()
        await until(lambda: client.ended, "the client to be cut off")
        self.assertEqual(self.seeing_off(), 0)

    async def test_client_that_does_not_read(self) -> None:
        """A client stopped by backpressure is cut off when its time is over."""
        client = await self.let_in()
        session = self.session
        client.transport.pauseProducing()
        client.send(pgbytes.query("SLEEP"))
        await until(lambda: any(b.working for b in self.fake.backends), "the statement")
        (backend,) = [one for one in self.fake.backends if one.working]
        backend.write(message(b"D", b"x" * 1000) * 20_000)
        await until(lambda: session.end.pending, "the client to be full")
        await self.revoke()
        self.no_time_left()
        await until(lambda: self.pool_here.in_use == 0, "the server to be free")
        await until(
            lambda: self.link.ends <= self.pool_here.total, "the client's socket to be gone"
        )
        client.transport.resumeProducing()
        await until(lambda: client.ended, "the client to notice")

    async def test_client_that_reads_late(self) -> None:
        """One that reads on in time gets all that was sent, and is told."""
        client = await self.let_in()
        session = self.session
        client.transport.pauseProducing()
        client.send(pgbytes.query("SLEEP"))
        await until(lambda: any(b.working for b in self.fake.backends), "the statement")
        (backend,) = [one for one in self.fake.backends if one.working]
        backend.write(message(b"D", b"x" * 1000) * 20_000)
        await until(lambda: session.end.pending, "the client to be full")
        await self.revoke()
        client.transport.resumeProducing()
        trace = await client.trace("$")
        self.assertTrue(trace.endswith("D" + GONE), trace[-20:])
        self.no_time_left()
        self.assertEqual(self.seeing_off(), 0)

    async def test_stop_meanwhile(self) -> None:
        """A stop of proxyd waits for nobody who was revoked."""
        client, _ = await self.half_a_row()
        await self.revoke()
        assert self.listener is not None
        await self.listener.stopService()
        await until(lambda: client.ended, "the client to be cut off")
        self.assertEqual(self.seeing_off(), 0)

    async def test_expiry(self) -> None:
        """The end of a token is the end of its sessions."""
        short = self.issued = await self.tokens.issue("shop", 60)
        client = await self.let_in()
        self.clock.advance(short.expires_at - self.clock.seconds() - 1)
        self.assertEqual(await self.asked(client, "one"), "TDCZ")
        self.clock.advance(1)
        self.assertEqual(await client.trace("$"), GONE)
