"""Tests for L{proxyd.postgres.departure}: a client goes, and its server answers first."""

from __future__ import annotations

from proxyd.postgres.leasing import State
from tests.postgres.client import Client, until
from tests.postgres.fakeserver import complete, message, ready, row, text
from tests.postgres.sessions import SessionTestCase
from tests.support import pgbytes


class LeavingTests(SessionTestCase):
    """A client goes: in order, by its half, or without a word."""

    async def test_goodbye_after_statements(self) -> None:
        """What was asked before the goodbye is done, and answered; what comes after it is not."""
        self.begin()
        client = await self.entered()
        client.send(pgbytes.query("one") + pgbytes.TERMINATE + pgbytes.query("two"))
        self.assertEqual(await client.trace("$"), "TDCZ")
        await self.at_peace()
        self.assertEqual(self.fake.backends[0].queries, ["one", "DISCARD ALL"])

    async def test_half_close(self) -> None:
        """A client that sends its last byte and waits gets its answer."""
        self.begin()
        client, backend = await self.working()
        await client.finish()
        await until(lambda: self.state() is State.LEAVING, "the end to be seen")
        self.clock.advance(0.1)
        backend.working = ""
        backend.write(row("late") + complete("SELECT 1") + ready())
        self.assertTrue((await client.trace("$")).endswith("TDCZ"))
        self.assertEqual(self.fake.cancels, [])
        await self.at_peace()

    async def test_goodbye_within_a_notification(self) -> None:
        """A notification that has half come holds nobody up once the rest is there."""
        self.begin()
        client = await self.entered()
        self.assertEqual(await self.asked(client, "one"), "TDCZ")
        (backend,) = self.fake.backends
        news = message(b"A", b"\0\0\0\1" + text("news") + text("it rains"))
        for part in (news[:7], news[7:-1]):
            backend.write(part)
            self.assertEqual(await client.bytes(len(part)), part)
            if part == news[:7]:
                client.send(pgbytes.TERMINATE)
                await until(lambda: self.state() is State.LEAVING, "the end to be seen")
        backend.write(news[-1:])
        self.assertEqual(await client.bytes(2), news[-1:])
        await self.at_peace()
        self.assertEqual(backend.queries, ["one", "DISCARD ALL"])

    async def test_goodbye_behind_a_copy(self) -> None:
        """A COPY that the client has ended is finished, though its answer was still to come."""
        self.begin()
        for leave in ("goodbye", "half"):
            self.fake.answers["HELD"] = message(b"G", b"\0\0\0")
            client = await self.entered()
            client.send(pgbytes.query("HELD") + pgbytes.copy_data(b"x\n") + pgbytes.COPY_DONE)
            self.assertEqual(await client.trace("G"), "G")
            if leave == "goodbye":
                client.send(pgbytes.TERMINATE)
            else:
                await client.finish()
            await until(lambda: self.state() is State.LEAVING, "the end to be seen")
            self.clock.advance(0.1)
            backend = self.fake.backends[0]
            await until(lambda: self.fake.backends[0].said[-1][0] == "c", "the data")
            backend.write(complete("COPY 1") + ready())
            self.assertTrue((await client.trace("$")).endswith("CZ"), leave)
            await self.at_peace()
            self.assertEqual(self.fake.cancels, [])
            self.assertEqual(backend.queries[-1], "DISCARD ALL")

    def state(self) -> State:
        """What the one session is doing."""
        assert self.listener is not None
        (session,) = self.listener.sessions
        return session.state

    async def test_vanished(self) -> None:
        """A client that is gone in the middle of its statement: it is cancelled, and reset."""
        self.begin()
        for leave in (Client.reset, Client.close):
            client, backend = await self.working()
            leave(client)
            # A FIN alone says nothing; a look whether it still reads does.
            await until(
                lambda: self.clock.advance(0.5) or not list(self.listener.sessions),  # type: ignore[union-attr]
                "the session to end",
            )
            await self.at_peace()
            self.assertEqual(self.fake.cancels[-1], backend.pid)
            self.assertEqual(backend.queries[-1], "DISCARD ALL")
        self.assertEqual(len(self.fake.startups), 1)

    async def test_vanished_in_transaction(self) -> None:
        """Its transaction is rolled back."""
        self.begin()
        client = await self.busy()
        client.reset()
        await self.at_peace()
        self.assertEqual(self.fake.backends[0].queries, ["BEGIN", "ROLLBACK", "DISCARD ALL"])

    async def test_vanished_in_copy(self) -> None:
        """A copy that was not ended by the client is failed."""
        self.begin()
        client = await self.entered()
        client.send(pgbytes.query("COPY"))
        self.assertEqual(await client.trace("G"), "G")
        client.close()
        await self.at_peace()
        kinds = [kind for kind, _ in self.fake.backends[0].said]
        self.assertIn("f", kinds)
        self.assertNotIn("c", kinds)

    async def test_vanished_in_batch(self) -> None:
        """A batch without its Sync is never committed."""
        self.begin()
        client = await self.entered()
        client.send(pgbytes.extended("INSERT") + pgbytes.FLUSH)
        self.assertEqual(await client.trace("12nC"), "12nC")
        client.close()
        await self.at_peace()
        self.assertEqual(self.fake.committed, [])
        await until(lambda: not self.fake.backends, "the server to be closed")

    async def test_broken_message(self) -> None:
        """A message that is none is 08P01 to this client; the server serves on."""
        self.begin()
        for said in (b"\x01\0\0\0\4", b"Q\0\0\0\1"):
            client = await self.entered()
            client.send(pgbytes.query("one") + said)
            self.assertEqual(await client.trace("$"), "TDCZE[08P01]")
            await self.at_peace()
        self.assertEqual(len(self.fake.startups), 1)
