"""Tests for L{proxyd.agents.websocket}; tests/agents/test_registry.py has it at work."""

from __future__ import annotations

from typing import Any

from autobahn.websocket.types import ConnectionDeny
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from proxyd.agents.masking import mask
from proxyd.agents.session import AgentSession
from proxyd.agents.websocket import (
    HEAD,
    AgentClientFactory,
    AgentServerFactory,
    has_fast_masking,
)
from proxyd.config.times import LINGER
from proxyd.wire.agent.frames import MESSAGE_LIMIT, SUBPROTOCOL
from proxyd.wire.agent.mux import Mux
from proxyd.wire.agent.websocket import binary_head

HELLO = (
    b"GET /agent HTTP/1.1\r\nHost: proxyd\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def masked(first: int, data: bytes) -> bytes:
    """A client's frame."""
    key = b"\1\2\3\4"
    body = bytearray(data)
    mask(body, key)
    head = binary_head(len(data), key)
    return bytes((first,)) + head[1:] + body


class FactoryTests(SynchronousTestCase):
    """What autobahn is told."""

    def test_limits(self) -> None:
        """Both ends take no longer message than there may be, and compress nothing."""
        server = AgentServerFactory(lambda *_: None, lambda _: None, 5)
        client = AgentClientFactory("ws://127.0.0.1:1/agent", "token")
        for factory in (server, client):
            self.assertEqual(factory.maxMessagePayloadSize, MESSAGE_LIMIT)
        self.assertEqual(server.maxConnections, 5)
        self.assertEqual(client.protocols, [SUBPROTOCOL])
        self.assertEqual(client.perMessageCompressionOffers, [])

    def test_token_is_hidden(self) -> None:
        """No repr shows it."""
        client = AgentClientFactory("ws://127.0.0.1:1/agent", "hush-hush")
        self.assertNotIn("hush-hush", repr(client))

    def test_masking(self) -> None:
        """autobahn's fast masker is there, as its wheels bring it."""
        self.assertTrue(has_fast_masking())


class Unclosing(StringTransport):
    """As TLS, where the peer does not answer the alert that closes."""

    aborted = False

    def unregisterProducer(self) -> None:
        """Forget it, if there is one, as a real transport does."""
        self.producer = None

    def loseConnection(self) -> None:
        """Wait for the peer, who says nothing."""

    def abortConnection(self) -> None:
        """Wait no longer."""
        self.aborted = True


class StrangerTests(SynchronousTestCase):
    """What a peer can make a WebSocket keep, before anybody knows who it is and after."""

    def come(self, admit: Any = lambda *_: (None, {})) -> Any:
        """Somebody has connected."""
        clock = Clock()

        def opened(protocol: Any) -> None:
            protocol.begin(AgentSession(Mux(opener=True), protocol, clock, 15.0))

        factory = AgentServerFactory(admit, opened, 5)
        factory.reactor = clock
        peer: Any = factory.buildProtocol(None)
        peer.makeConnection(Unclosing())
        self.addCleanup(peer.connectionLost, Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
        return peer

    def test_endless_head(self) -> None:
        """A head that does not end is not kept for longer than a head may be."""
        peer = self.come()
        for _ in range(100):
            peer.dataReceived(b"a" * 4096)
        self.assertTrue(peer.transport.aborted)
        self.assertLess(len(peer.data), HEAD + 2 * 4096)

    def test_long_message_slowly(self) -> None:
        """A message may take its time on a bad line: each piece of it is a sign of life."""
        peer = self.come()
        peer.dataReceived(HELLO)
        peer.dataReceived(b"\x82\xff" + (MESSAGE_LIMIT).to_bytes(8, "big") + bytes(4))
        for _ in range(10):
            peer.factory.reactor.advance(15.0)
            peer.dataReceived(b"a")
        self.assertFalse(peer.transport.aborted)
        for _ in range(4):
            peer.factory.reactor.advance(15.0)
        self.assertTrue(peer.transport.aborted)

    def test_too_many(self) -> None:
        """Of those who are not let in yet the oldest goes; who is in, or gone, does not count."""
        opened: list[Any] = []
        clock = Clock()
        factory = AgentServerFactory(lambda *_: (None, {}), opened.append, 100, strangers=3)
        factory.reactor = clock
        peers: list[Any] = []
        for _ in range(5):
            peer: Any = factory.buildProtocol(None)
            peer.makeConnection(Unclosing())
            self.addCleanup(peer.connectionLost, Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
            peers.append(peer)
            if len(peers) == 1:
                peer.dataReceived(HELLO)
        self.assertEqual(opened, peers[:1])
        self.assertEqual(
            [peer.transport.aborted for peer in peers], [False, True, False, False, False]
        )
        peers[2].connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
        self.assertEqual((list(factory.strangers), factory.turned_away), (peers[3:], 1))

    def test_refused_and_still_there(self) -> None:
        """Who was refused has a while to go, and what it says meanwhile is not kept."""

        def refuse(*_: object) -> None:
            raise ConnectionDeny(401, "no")  # type: ignore[no-untyped-call]

        peer = self.come(refuse)
        peer.dataReceived(HELLO)
        self.assertIn(b" 401 ", peer.transport.value())
        for _ in range(100):
            peer.dataReceived(b"a" * 4096)
        self.assertLess(len(peer.data), 4096)
        self.assertFalse(peer.transport.aborted)
        peer.factory.reactor.advance(LINGER)
        self.assertTrue(peer.transport.aborted)

    def test_frames(self) -> None:
        """Binary messages, pings and fragments, however they are cut: all arrive in order."""
        heard: list[Any] = []
        stream = (
            masked(0x82, b"one")
            + masked(0x89, b"?")
            + masked(0x02, b"t")
            + masked(0x80, b"wo")
            + masked(0x82, bytes(70_000))
            + masked(0x82, b"four")
        )
        for step in (1, 7, 4096, len(stream)):
            peer = self.come()
            peer.dataReceived(HELLO)
            peer.transport.clear()
            peer.session.message_received = lambda message: heard.append(bytes(message))
            for at in range(0, len(stream), step):
                peer.dataReceived(stream[at : at + step])
            self.assertEqual(heard, [b"one", b"two", bytes(70_000), b"four"], step)
            self.assertEqual(peer.transport.value(), b"\x8a\x01?", step)
            heard.clear()

    def test_frames_behind_the_head(self) -> None:
        """What comes in one piece with the head is heard, too."""
        heard: list[Any] = []
        self.patch(
            AgentSession, "message_received", lambda _, message: heard.append(bytes(message))
        )
        peer = self.come()
        first, second = masked(0x82, b"one"), masked(0x82, b"two")
        peer.dataReceived(HELLO + first + second[:3])
        peer.dataReceived(second[3:])
        self.assertEqual(heard, [b"one", b"two"])

    def test_broken_frames(self) -> None:
        """What breaks the rules of a WebSocket is answered so, and nothing is heard after it."""
        for broken in (
            b"\x82\x01a",  # not masked
            masked(0xC2, b"a"),
            masked(0x83, b"a"),
            masked(0x80, b"a"),
            masked(0x02, b"a") + masked(0x82, b"b"),
            b"\x82\xfe\0\1\0\0\0\0a",  # a longer head than it takes
            b"\x82\xff" + (MESSAGE_LIMIT + 1).to_bytes(8, "big") + bytes(4),
        ):
            peer = self.come()
            peer.dataReceived(HELLO)
            peer.transport.clear()
            heard: list[Any] = []
            peer.session.message_received = heard.append
            peer.dataReceived(broken + masked(0x82, b"more"))
            self.assertEqual(heard, [], broken)
            self.assertEqual(peer.transport.value()[:1], b"\x88", broken)

    def test_send(self) -> None:
        """A binary message goes in one frame; a client's is masked, by another key each time."""
        peer = self.come()
        peer.dataReceived(HELLO)
        peer.transport.clear()
        peer.send_pieces([b"one", memoryview(b"two")], 6)
        self.assertEqual(peer.transport.value(), b"\x82\x06onetwo")
        peer.factory.isServer = False
        keys = set()
        for _ in range(8):
            peer.transport.clear()
            peer.send_pieces([b"one", memoryview(b"two")], 6)
            sent = peer.transport.value()
            keys.add(sent[2:6])
            self.assertEqual(sent[:2], b"\x82\x86")
            there = bytearray(sent[6:])
            mask(there, sent[2:6])
            self.assertEqual(there, b"onetwo")
        self.assertGreater(len(keys), 1)
        peer.factory.isServer = True
        peer.sendClose(1000, "")
        peer.transport.clear()
        peer.send_pieces([b"late"], 4)
        self.assertEqual(peer.transport.value(), b"")

    def test_pings_unread(self) -> None:
        """Who asks whether we are there and reads no answers does not make them pile up."""
        peer = self.come()
        peer.dataReceived(HELLO)
        peer.transport.clear()
        ping = b"\x89\x81\0\0\0\0a"
        peer.dataReceived(ping)
        self.assertEqual(peer.transport.value(), b"\x8a\x01a")
        peer.transport.producer.pauseProducing()
        peer.dataReceived(ping * 10)
        self.assertEqual(peer.transport.value(), b"\x8a\x01a")
