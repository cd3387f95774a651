"""Tests for L{proxyd.agents.registry}: who may come, and agents that only speak JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory

from proxyd.agents.hush import Hush
from proxyd.agents.registry import TOKEN_PREFIX, AgentRegistry
from proxyd.records import Change, Conflict, Kind, StoreLost, Unknown
from tests.agents.scene import AgentsTestCase
from tests.support.streams import Party, until

reactor: Any = _reactor


class Raw(WebSocketClientProtocol):  # type: ignore[misc]  # autobahn has no types
    """A WebSocket of nobody's in particular: a pseudo-client written from the contract alone."""

    log = Hush()

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Any] = []
        self.closed: str | None = None

    def onOpen(self) -> None:
        """It is open."""
        self.factory.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Keep it."""
        self.messages.append(payload if isBinary else json.loads(payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """It is gone."""
        super().onClose(wasClean, code, reason)
        self.closed = reason or "closed"
        if not self.factory.opened.called:
            self.factory.opened.errback(ConnectionError(self.closed))

    def say(self, **fields: Any) -> None:
        """Send JSON."""
        self.sendMessage(json.dumps(fields).encode())


class RegistryTestCase(AgentsTestCase):
    """WebSockets of all kinds."""

    async def raw(
        self, token: str, query: str = "", protocols: list[str] | None = None, **headers: str
    ) -> Raw:
        """A WebSocket, open; fails with ConnectionError."""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        factory: Any = WebSocketClientFactory(  # type: ignore[no-untyped-call]
            self.place + query, headers=headers, protocols=protocols
        )
        factory.protocol = Raw
        factory.noisy = False
        factory.opened = Deferred()
        reactor.connectTCP("127.0.0.1", self.door.getHost().port, factory)
        there: Raw = await factory.opened
        return there

    async def refusal(self, *arguments: Any, **headers: str) -> str:
        """How it was refused."""
        with self.assertRaises(ConnectionError) as caught:
            await self.raw(*arguments, **headers)
        return str(caught.exception)


class AdmitTests(RegistryTestCase):
    """The token decides who it is."""

    async def test_refused(self) -> None:
        """No token, a wrong one, another id, a browser, another path."""
        token = await self.registry.add("pc1")
        self.assertTrue(token.startswith(TOKEN_PREFIX))
        self.assertIn("[401]", await self.refusal(""))
        self.assertIn("[401]", await self.refusal(token[:-1]))
        self.assertIn("[401]", await self.refusal("x" * 5000))
        self.assertIn("[403]", await self.refusal(token, "?client_id=pc2"))
        self.assertIn("[403]", await self.refusal(token, "", None, Origin="https://evil.example"))
        place, self.place = self.place, self.place.replace("/agent", "/other")
        self.assertIn("[404]", await self.refusal(token))
        self.place = place
        self.assertEqual([one.since for one in self.registry.status()], [None])

    async def test_revoked(self) -> None:
        """An agent that is removed goes, and can't come again."""
        token = await self.registry.add("pc1")
        there = await self.raw(token, "?client_id=pc1")
        await self.registry.remove("pc1")
        await until(lambda: there.closed, "the end")
        self.assertIn("[401]", await self.refusal(token))
        with self.assertRaises(Unknown):
            await self.registry.remove("pc1")

    async def test_missed(self) -> None:
        """Whoever was removed while nothing was heard of it goes once all is read again."""
        token = await self.registry.add("pc1")
        there = await self.raw(token, "?client_id=pc1")
        self.store._agents.clear()
        await self.registry._changed(Change(Kind.ALL, 0, None))
        await until(lambda: there.closed, "the end")
        self.assertIn("[401]", await self.refusal(token))

    async def test_missed_and_not_read(self) -> None:
        """Where all can't be read again the store is told, so that it is tried again."""
        await self.store.close()
        told = self.registry._changed(Change(Kind.ALL, 0, None))
        assert told is not None
        with self.assertRaises(StoreLost):
            await told

    async def test_names(self) -> None:
        """An id is given once; the store keeps no token."""
        token = await self.registry.add("pc1")
        with self.assertRaises(Conflict):
            await self.registry.add("pc1")
        (record,) = await self.store.agents()
        self.assertNotIn(token.encode(), record.digest)

    async def test_restart(self) -> None:
        """Who could come before a restart can come after it."""
        await self.registry.add("pc1")
        again = AgentRegistry(reactor, self.store, self.settings)
        await again.load()
        self.assertTrue(again.known("pc1"))

    async def test_broken(self) -> None:
        """Binary nonsense ends the session of whoever sent it, and no other."""
        good = await self.agent("pc1")
        token = await self.registry.add("pc2")
        there = await self.raw(token, protocols=["proxyd.mux.v1"])
        there.sendMessage(b"\4\0", isBinary=True)
        await until(lambda: there.closed, "the end")
        there = await self.raw(token)
        there.sendMessage(b"[" * 50_000)
        await until(lambda: there.closed, "the end")
        self.assertIsNotNone(good.session)


class JsonTests(RegistryTestCase):
    """Level 0, word for word as it was first written down."""

    async def setUp(self) -> None:
        """An agent that speaks JSON is here, and a port leads through it."""
        await super().setUp()
        self.token = await self.registry.add("pc1")
        self.there = await self.raw(self.token, "?client_id=pc1")
        await until(lambda: self.registry.is_here(["pc1"]), "the agent")
        self.open = await self.reverse(3389)

    async def user(self) -> Party:
        """A user whose C{proxy_connect} is there."""
        before = len(self.there.messages)
        port = self.open.settings.local_port
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)  # type: ignore[no-untyped-call]
        user: Party = await endpoint.connect(Factory.forProtocol(Party))
        await until(lambda: len(self.there.messages) > before, "proxy_connect")
        return user

    def ids(self) -> dict[str, str]:
        """Of the last message."""
        last = self.there.messages[-1]
        return {"proxy_id": last["proxy_id"], "user_id": last["user_id"]}

    async def test_conversation(self) -> None:
        """Connect, data both ways, disconnect."""
        user = await self.user()
        asked = self.there.messages[-1]
        self.assertEqual(asked["type"], "proxy_connect")
        self.assertEqual(
            (asked["remote_host"], asked["remote_port"], asked["protocol"]),
            ("127.0.0.1", 3389, "tcp"),
        )
        self.assertEqual(asked["proxy_id"], self.open.proxy_id)
        user.stream.write(b"hello")
        await until(lambda: self.there.messages[-1]["type"] == "proxy_data", "the data")
        self.assertEqual(base64.b64decode(self.there.messages[-1]["data"]), b"hello")
        self.there.say(type="proxy_data", **self.ids(), data=base64.b64encode(b"hi").decode())
        await until(lambda: user.kept == b"hi", "the answer")
        self.there.say(type="proxy_disconnect", **self.ids())
        await until(lambda: user.lost or "read" in user.events, "the end")
        user.stream.loseConnection()

    async def test_user_leaves(self) -> None:
        """The agent is told."""
        user = await self.user()
        user.stream.loseConnection()
        await until(lambda: self.there.messages[-1]["type"] == "proxy_disconnect", "the word")

    async def test_reset(self) -> None:
        """A disconnect with the reason of a failure is a reset."""
        user = await self.user()
        self.there.say(type="proxy_disconnect", **self.ids(), reason="refused")
        await until(lambda: user.lost, "the reset")

    async def test_stuck_user(self) -> None:
        """Who is sent a megabyte and more and reads nothing is reset; others go on."""
        stuck, fine = await self.user(), await self.user()
        stuck.stream.pauseProducing()
        ids = [
            {"proxy_id": one["proxy_id"], "user_id": one["user_id"]}
            for one in self.there.messages
            if one["type"] == "proxy_connect"
        ]
        data = base64.b64encode(b"x" * 48_000).decode()
        for _ in range(300):
            self.there.say(type="proxy_data", **ids[0], data=data)
        self.there.say(type="proxy_data", **ids[1], data="aGk=")
        await until(lambda: fine.kept == b"hi", "the other one's data")
        await until(lambda: len(self.open.users) == 1, "the stuck one to be reset")
        stuck.stream.abortConnection()
        fine.stream.abortConnection()

    async def test_binary_is_not_spoken(self) -> None:
        """Whoever speaks JSON and sends frames is sent away."""
        self.there.sendMessage(b"\4\0\0\0\0\0\0\2", isBinary=True)
        await until(lambda: self.there.closed, "the end")

    async def test_no_upstream(self) -> None:
        """An agent that does not say C{proxy_connected} can't be an upstream."""
        from proxyd.agents.upstream import AgentUpstream
        from proxyd.errors import DialError
        from proxyd.target import Principal
        from proxyd.target import Target as Place

        upstream = AgentUpstream("office", self.registry, ("pc1",))
        endpoint = upstream.endpoint_for(Place("127.0.0.1", 1), Principal("", ""))
        with self.assertRaises(DialError) as caught:
            await endpoint.connect(Factory.forProtocol(Party))
        self.assertIn("never says proxy_connected", str(caught.exception))


class TakeoverTests(RegistryTestCase):
    """Two connections with one token."""

    async def test_newer_wins(self) -> None:
        """At once, whatever the old one does."""
        token = await self.registry.add("pc1")
        old = await self.raw(token)
        new = await self.raw(token)
        await until(lambda: old.closed, "the old one to go")
        self.assertIsNone(new.closed)
        self.assertTrue(self.registry.is_here(["pc1"]))
        new.sendClose()
