"""Tests for L{proxyd.postgres.restoring}: what a client has reset is put back, by real sockets."""

from __future__ import annotations

from proxyd.postgres.restoring import restoring_batch
from tests.postgres.client import Client, until
from tests.postgres.fakeserver import Backend, complete, message, ready, text
from tests.postgres.sessions import SessionTestCase
from tests.support import pgbytes

RESET_ALL = (
    message(b"S", text("application_name") + text(""))
    + message(b"S", text("TimeZone") + text("Etc/UTC"))
    + complete("RESET")
)


class BatchTests(SessionTestCase):
    """What the server is asked."""

    def test_bound(self) -> None:
        """Names and values are bound, whatever is in them; each setting is asked about once."""
        nasty = "'; DROP TABLE x; --"
        batch = restoring_batch((("my.note", nasty), ("work_mem", "4MB")))
        parse = batch[: batch.index(b"B\0")]
        self.assertNotIn(b"DROP", parse)
        self.assertEqual(parse.count(b"set_config($"), 2)
        self.assertIn(nasty.encode(), batch)
        self.assertTrue(batch.endswith(b"C\0\0\0\6S\0" + pgbytes.SYNC))


class RestoringTests(SessionTestCase):
    """At the next border between two transactions."""

    async def reset(self, *, hang: bool = False) -> tuple[Client, Backend]:
        """A client that has said RESET ALL; with C{hang} its server does not go on after that."""

        def answer(backend: Backend) -> None:
            backend.write(RESET_ALL + ready(backend.status))
            if hang:
                backend.working = "HANG"

        await self.begin_warm()
        self.fake.answers["RESET ALL"] = answer
        client = await self.entered(application_name="psql", TimeZone="Asia/Tokyo")
        self.assertEqual(await self.asked(client, "one"), "TDCZ")
        self.assertEqual(await self.asked(client, "RESET ALL"), "SSCZ")
        (backend,) = self.fake.backends
        return client, backend

    async def test_put_back(self) -> None:
        """The client's settings are there again before its next statement, and it is told."""
        client, backend = await self.reset()
        self.assertEqual(await self.asked(client, "two"), "SSTDCZ")
        self.assertEqual(client.parameters["TimeZone"], "Asia/Tokyo")
        self.assertEqual(client.parameters["application_name"], "ann|psql")
        kinds = "".join(kind for kind, _ in backend.said)
        self.assertTrue(kinds.endswith("QPBECSQ"), kinds)
        # It is done once: there is nothing to be put back any more.
        self.assertEqual(await self.asked(client, "three"), "TDCZ")
        client.send(pgbytes.TERMINATE)
        await self.at_peace()
        self.assertEqual(backend.queries[-1], "DISCARD ALL")

    async def test_within_a_transaction(self) -> None:
        """Within a transaction nothing of ours is said."""
        client, backend = await self.reset()
        await self.asked(client, "BEGIN")
        await self.asked(client, "RESET ALL")
        await self.asked(client, "two")
        self.assertEqual(backend.queries[-3:], ["BEGIN", "RESET ALL", "two"])
        before = len(backend.said)
        await self.asked(client, "COMMIT")
        await until(lambda: len(backend.said) == before + 6, "what is put back")

    async def test_next_statement_waits(self) -> None:
        """What the client says meanwhile is kept, a half message too, and goes on in its order."""
        client, backend = await self.reset(hang=True)
        client.send(pgbytes.query("two") + pgbytes.query("three")[:3])
        await until(lambda: backend._buffer, "what is put back")
        self.assertEqual(backend.queries[-1], "RESET ALL")
        self.assertNotIn(b"two", backend._buffer)
        backend.working = ""
        backend.dataReceived(b"")
        client.send(pgbytes.query("three")[3:])
        self.assertEqual(await client.trace("ZZ"), "SSTDCZTDCZ")

    async def test_half_a_message_behind(self) -> None:
        """The start of a message right behind a reset, the session's first message, is kept."""
        await self.begin_warm()
        self.fake.answers["RESET ALL"] = lambda backend: backend.write(RESET_ALL + ready())
        client = await self.entered(application_name="psql")
        two = pgbytes.query("two")
        client.send(pgbytes.query("RESET ALL") + two[:1])
        self.assertEqual(await client.trace("Z"), "SSCZ")
        client.send(two[1:])
        self.assertTrue((await client.trace("Z")).endswith("TDCZ"))

    async def test_notified(self) -> None:
        """A notification that comes meanwhile is the client's."""
        client, backend = await self.reset(hang=True)
        await until(lambda: backend._buffer, "what is put back")
        news = b"\0\0\0\1" + text("news") + text("it rains")
        backend.write(message(b"A", news))
        (heard,) = await client.read("A")
        self.assertEqual(heard.body, news)
        backend.working = ""
        backend.dataReceived(b"")
        self.assertEqual(await self.asked(client, "two"), "SSTDCZ")

    async def test_notified_right_behind(self) -> None:
        """So is one that comes in the same segment as the answer, behind it."""
        client, backend = await self.reset(hang=True)
        await until(lambda: backend._buffer, "what is put back")
        news = b"\0\0\0\1" + text("news") + text("it rains")
        backend.working = ""
        backend.dataReceived(b"")
        backend.write(message(b"A", news))
        *_, heard = await client.read("A")
        self.assertEqual(heard.body, news)
        self.assertEqual(await self.asked(client, "two"), "TDCZ")

    async def test_server_lost(self) -> None:
        """A server that is lost meanwhile is told of, and not used again."""
        client, backend = await self.reset(hang=True)
        await until(lambda: backend._buffer, "what is put back")
        backend.reset()
        self.assertEqual((await client.words())["C"], "08006")
        await self.ended(client)
        await self.at_peace()

    async def test_server_silent(self) -> None:
        """A server that does not answer is given up at connect_timeout."""
        client, backend = await self.reset(hang=True)
        await until(lambda: backend._buffer, "what is put back")
        self.clock.advance(11.0)
        self.assertEqual((await client.words())["C"], "08006")

    async def test_client_leaves(self) -> None:
        """A client that goes meanwhile leaves a server that is finished in order."""
        client, backend = await self.reset(hang=True)
        await until(lambda: backend._buffer, "what is put back")
        client.reset()
        await until(lambda: self.listener and not self.listener._sessions, "the session's end")
        backend.working = ""
        backend.dataReceived(b"")
        await self.at_peace()
        self.assertEqual(backend.queries[-1], "DISCARD ALL")

    async def test_ended_meanwhile(self) -> None:
        """A cancel request finds nothing to stop; a drain ends the session."""
        client, backend = await self.reset(hang=True)
        await until(lambda: backend._buffer, "what is put back")
        assert self.listener is not None
        (session,) = [one for one in self.listener.sessions if one.pid == client.pid]
        cancelling = session.cancel()
        session.drain()
        self.assertEqual((await client.words())["C"], "57P01")
        await cancelling
        self.assertEqual(self.fake.cancels, [])
        backend.working = ""
        backend.dataReceived(b"")
        await self.at_peace()
