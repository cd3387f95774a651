"""Tests for L{proxyd.postgres.session_source}."""

from __future__ import annotations

from proxyd.net.sessions import Sessions
from proxyd.postgres.session_source import PostgresSessions, listener_figures, pool_figures
from tests.postgres.client import until
from tests.postgres.scene import SceneTestCase
from tests.support import pgbytes


class SourceTests(SceneTestCase):
    """PostgreSQL's sessions as everybody sees them."""

    async def setUp(self) -> None:
        """A listener that trusts loopback."""
        await super().setUp()
        self.door = self.listen(self.connection(auth=("trust",)))
        self.sessions = Sessions()
        self.sessions.add(PostgresSessions(self.door))

    async def test_listed(self) -> None:
        """Who, from where, to where, doing what, and how much went through."""
        (await self.entered("bob")).close()
        await until(lambda: not self.door.session_count, "what the pool learns from to be over")
        client = await self.entered("ann")
        (session,) = self.sessions
        self.assertEqual((session.kind, session.target), ("postgres", "shop"))
        self.assertEqual(session.principal.user, "ann")
        self.assertEqual((session.state, session.token_id), ("idle", None))
        client.send(pgbytes.query("BEGIN"))
        await client.read("Z")
        (after,) = self.sessions
        self.assertEqual((after.number, after.state), (session.number, "joined"))
        self.assertGreater(after.received, session.received)
        self.assertGreater(after.sent, session.sent)
        self.assertEqual(self.sessions.counts(), {"postgres": 1})

    async def test_killed(self) -> None:
        """It is told 57P01, and is gone."""
        client = await self.entered("ann")
        await self.entered("bob")
        found = self.sessions.find(min(session.number for session in self.sessions))
        assert found is not None
        found.kill("enough")
        self.assertEqual((await client.words())["C"], "57P01")
        await self.ended(client)
        self.assertEqual([session.principal.user for session in self.sessions], ["bob"])

    async def test_wrong_keys(self) -> None:
        """Wrong cancel keys, and those that nobody looked at."""
        for _ in range(3):
            guessing = await self.client()
            guessing.send(pgbytes.cancel(4711, b"none"))
            await self.ended(guessing)
        self.door.guesses.dropped = 2
        figures = {figure.name: figure.value for figure in listener_figures(self.door)}
        self.assertEqual(figures["postgres_cancel_keys_wrong"], 3)
        self.assertEqual(figures["postgres_cancels_dropped"], 2)

    async def test_bytes_of_all(self) -> None:
        """The bytes of sessions that are over still count."""

        def counted() -> dict[str, float]:
            return {
                figure.labels["direction"]: figure.value
                for figure in listener_figures(self.door)
                if figure.name == "postgres_client_bytes"
            }

        client = await self.entered("ann")
        client.send(pgbytes.query("SELECT 1"))
        await client.read("Z")
        before = counted()
        self.assertGreater(min(before.values()), 0)
        client.close()
        await until(lambda: not self.door.session_count, "the session to end")
        after = counted()
        self.assertGreaterEqual(after["received"], before["received"])
        self.assertGreaterEqual(after["sent"], before["sent"])

    async def test_pools(self) -> None:
        """By connection: neither the user nor the database is a label."""
        await self.entered("ann")
        figures = list(pool_figures(self.pools))
        self.assertEqual(
            {name for figure in figures for name in figure.labels}, {"connection", "state"}
        )
        clients = [figure.value for figure in figures if figure.name == "pool_clients"]
        self.assertEqual(clients, [1])
        grows = {figure.name for figure in figures if figure.only_grows}
        self.assertIn("pool_acquires", grows)
        self.assertNotIn("pool_connections", grows)
