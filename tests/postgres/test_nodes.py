"""
Tests of L{proxyd.postgres.nodes}: two listeners that share a store, by real sockets.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.token_settings import NODES_AGAIN
from proxyd.postgres.guesses import FREE, RATE
from proxyd.postgres.listener import PostgresListener
from proxyd.postgres.nodes import Nodes
from proxyd.records import NodeRecord
from proxyd.store.memory import MemoryStore
from tests.postgres.client import Client, until
from tests.postgres.sessions import SessionTestCase
from tests.support import pgbytes


class NodesTests(SessionTestCase):
    """A cancel request that comes to the wrong node."""

    async def setUp(self) -> None:
        """Two listeners with a store in common."""
        await super().setUp()
        self.store = MemoryStore()
        await self.store.open()
        self.listeners: list[PostgresListener] = []
        self.ports: list[int] = []
        for _ in range(2):
            self.begin()
            assert self.listener is not None
            self.listeners.append(self.listener)
            self.ports.append(self.listening_at)
        for listener, port in zip(self.listeners, self.ports, strict=True):
            keys: Any = listener.keys
            listener.nodes = Nodes(
                self.clock,
                self.store,
                keys,
                self.dialer,
                lambda port=port: f"127.0.0.1:{port}",  # type: ignore[misc]
                every=10,
                patience=5,
            )
            listener.nodes.startService()

    async def tearDown(self) -> None:
        """End both."""
        for listener in self.listeners:
            assert listener.nodes is not None
            await listener.nodes.stopService()
        await self.listeners[0].stopService()
        await super().tearDown()

    def use(self, number: int) -> None:
        """Connect to this one from now on."""
        self.listening_at = self.ports[number]

    async def sleeping(self) -> Client:
        """A client of the first node whose statement runs."""
        self.use(0)
        client = await self.entered()
        client.send(pgbytes.query("SLEEP"))
        await until(lambda: any(b.working for b in self.fake.backends), "the statement")
        return client

    async def test_handed_on(self) -> None:
        """It reaches the node that its key is of, and stops the statement."""
        client = await self.sleeping()
        self.use(1)
        await self.cancel(client)
        self.assertEqual(await client.trace(), "E[57014]Z")

    async def test_wrong_key(self) -> None:
        """A wrong key does nothing there either."""
        client = await self.sleeping()
        self.use(1)
        await self.cancel(client, b"nope")
        self.assertTrue(any(b.working for b in self.fake.backends))
        self.use(0)
        await self.cancel(client)
        self.assertEqual(await client.trace(), "E[57014]Z")

    async def test_unknown_node(self) -> None:
        """A key of a node that there is not does nothing."""
        client = await self.client()
        client.send(pgbytes.cancel(1023 << 21 | 7, b"abcd"))
        self.assertEqual(await client.read("$"), [])

    async def test_throttled(self) -> None:
        """Who sends key after key for another node waits, as with wrong keys."""
        client = await self.sleeping()
        self.use(1)
        for _ in range(FREE):
            await self.cancel(client, b"nope")
        asked = await self.client()
        asked.send(pgbytes.cancel(client.pid, client.key))
        soon = self.clock.seconds() + 1 / RATE
        await until(
            lambda: any(abs(call.getTime() - soon) < 0.01 for call in self.clock.getDelayedCalls()),
            "the wait",
        )
        self.assertFalse(asked.ended or self.fake.cancels)
        self.clock.advance(1.0)
        self.assertEqual(await asked.read("$"), [])
        self.assertEqual(await client.trace(), "E[57014]Z")
        self.assertEqual(self.listeners[1].guesses.wrong, 0)

    async def test_node_gone(self) -> None:
        """A node that can't be reached is logged, and nobody waits for it."""
        client = await self.sleeping()
        await self.store.join("gone", "127.0.0.1:1")
        number = (await self.store.nodes())[-1].number
        self.use(1)
        other = await self.client()
        other.send(pgbytes.cancel(number << 21 | 7, b"abcd"))
        self.assertEqual(await other.read("$"), [])
        await self.cancel(client)
        self.assertEqual(await client.trace(), "E[57014]Z")

    async def test_numbers(self) -> None:
        """Each has a number of its own, which it gives back."""
        numbers = [listener.keys.node for listener in self.listeners]
        self.assertEqual(sorted(numbers), [1, 2])
        assert self.listeners[1].nodes is not None
        await self.listeners[1].nodes.stopService()
        self.assertEqual(len(await self.store.nodes()), 1)
        self.listeners[1].nodes.startService()


class CountingStore(MemoryStore):
    """Counts how often it is asked for nodes."""

    asked = 0

    def nodes(self) -> Deferred[list[NodeRecord]]:
        """Count."""
        self.asked += 1
        return super().nodes()


class Keys:
    """Keys of two nodes."""

    node = 1

    def node_of(self, pid: int) -> int:
        """The node that a number names."""
        return pid >> 21


class LookTests(SynchronousTestCase):
    """How often it is looked who there is."""

    def test_numbers_of_nobody(self) -> None:
        """Cancel requests with numbers that somebody made up ask the store once a second."""
        clock, store, dialer = Clock(), CountingStore(), cast(Any, None)
        self.successResultOf(store.open())
        nodes = Nodes(clock, store, Keys(), dialer, lambda: "a:1", every=10.0, patience=5.0)
        for _ in range(2):
            for number in range(2, 100):
                self.successResultOf(Deferred.fromCoroutine(nodes.cancel(number << 21, b"key")))
            clock.advance(NODES_AGAIN)
        self.assertEqual(store.asked, 2)
