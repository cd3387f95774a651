"""What the tests of sessions share: a listener that trusts loopback, and clients in the middle."""

from __future__ import annotations

from typing import Any

from proxyd.config.model import Connection
from proxyd.postgres.pool import Pool
from tests.postgres.client import Client, until
from tests.postgres.fakeserver import Backend
from tests.postgres.scene import SceneTestCase
from tests.support import pgbytes


class SessionTestCase(SceneTestCase):
    """A listener that trusts loopback."""

    def begin(self, **changes: Any) -> None:
        """Listen, with a connection of these settings."""
        self.listen(self.trusting(**changes))

    def trusting(self, **changes: Any) -> Connection:
        """A connection that loopback may use without a password."""
        return self.connection(auth=("trust",), **changes)

    async def begin_warm(self, **changes: Any) -> None:
        """The same, with a pool that has learnt its parameters: no server is needed to come in."""
        self.begin(**changes)
        client = await self.entered()
        client.send(pgbytes.TERMINATE)
        await self.ended(client)
        await self.at_peace()

    @property
    def pool_here(self) -> Pool:
        """The one pool."""
        (pool,) = self.pools
        return pool

    async def asked(self, client: Client, said: str) -> str:
        """The trace of a Query's answer."""
        client.send(pgbytes.query(said))
        return await client.trace()

    async def busy(self) -> Client:
        """A client that holds a server, in a transaction."""
        client = await self.entered()
        self.assertEqual(await self.asked(client, "BEGIN"), "CZ")
        return client

    async def working(self, said: bytes = b"") -> tuple[Client, Backend]:
        """A client whose statement runs, and the server that runs it."""
        client = await self.entered()
        client.send(said or pgbytes.query("SLEEP"))
        await until(lambda: any(b.working for b in self.fake.backends), "the statement")
        (backend,) = [backend for backend in self.fake.backends if backend.working]
        return client, backend

    async def cancel(self, client: Client, key: bytes | None = None) -> None:
        """Cancel what a client asked for, and wait until that is done."""
        other = await self.client()
        other.send(pgbytes.cancel(client.pid, client.key if key is None else key))
        self.assertEqual(await other.read("$"), [])

    async def at_peace(self) -> None:
        """Wait until no client is here and no server is in use."""
        assert self.listener is not None
        listener = self.listener
        await until(lambda: not listener.sessions, "the sessions to end")
        await until(lambda: not any(pool.in_use for pool in self.pools), "the leases to end")
