"""Tests for L{proxyd.agents.sockets}, on real sockets."""

from __future__ import annotations

import socket
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.agents.sockets import (
    READ,
    UNSENT,
    Outlet,
    connection_below,
    keep_little_unsent,
    read_much,
)
from proxyd.agents.tls import by_pin, pin_of
from tests.net.authority import made
from tests.support.streams import Party, until


class Producer:
    """What a transport tells whoever writes to it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        """No more."""
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """More."""
        self.told.append("resume")

    def stopProducing(self) -> None:
        """Nothing at all."""


class Wrapped:
    """As TLS in memory: a transport above another."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport


class OutletTests(TestCase):
    """Bytes arrive once and in order; who writes pauses while some of them wait."""

    async def setUp(self) -> None:
        """A connection to a plain socket that is read when the test says so."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            place = TCP4ClientEndpoint(reactor, *listening.getsockname())  # type: ignore[no-untyped-call]
            self.party: Any = await place.connect(Factory.forProtocol(Party))
            self.far, _ = listening.accept()
        self.far.setblocking(False)
        self.transport = self.party.transport

    async def tearDown(self) -> None:
        """Nothing is left."""
        self.far.close()
        self.transport.abortConnection()
        await until(lambda: "lost" in self.party.events, "the end")

    def test_at_once(self) -> None:
        """What the socket takes is on its way when the call returns."""
        Outlet(self.transport).write((b"one ", memoryview(b"two")))
        self.assertEqual(self.far.recv(100), b"one two")

    async def test_waits(self) -> None:
        """What it does not take waits; one message is enough to pause who writes."""
        producer = Producer()
        self.transport.registerProducer(producer, True)
        outlet = Outlet(self.transport)
        sent = 0
        while not producer.told:
            sent += 1
            outlet.write((sent.to_bytes(4, "big") * 10_000,))
        got = bytearray()

        def come() -> bool:
            try:
                while piece := self.far.recv(1 << 20):
                    got.extend(piece)
            except BlockingIOError:
                pass
            return len(got) == sent * 40_000

        await until(come, "all bytes")
        await until(lambda: producer.told == ["pause", "resume"], "it to go on")
        self.assertEqual(got[:4] + got[-4:], (1).to_bytes(4, "big") + sent.to_bytes(4, "big"))

    def test_settings(self) -> None:
        """They are those of the connection, also below TLS."""
        wrapped = Wrapped(self.transport)
        self.assertIs(connection_below(wrapped), self.transport)
        read_much(wrapped)
        self.transport.setTcpNoDelay(False)
        keep_little_unsent(wrapped)
        self.assertTrue(self.transport.getTcpNoDelay())
        self.assertEqual((self.transport.bufferSize, self.transport.SEND_LIMIT), (READ, READ))
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is not None:
            kept = self.transport.getHandle().getsockopt(socket.IPPROTO_TCP, option)
            self.assertEqual(kept, UNSENT)

    def test_below_tls(self) -> None:
        """Nothing passes TLS by."""
        self.transport.TLS = True
        outlet = Outlet(self.transport)
        self.transport.TLS = False
        outlet.write((b"later",))
        self.assertRaises(BlockingIOError, self.far.recv, 100)


class SealedTests(TestCase):
    """Through TLS, too, all arrives once and in order, whichever way it was written."""

    async def setUp(self) -> None:
        """Two ends of a connection with TLS."""
        pair = made("localhost", names=("localhost",), ca=True)
        own: Any = PrivateCertificate.loadPEM(pair.pem + pair.key_pem())  # type: ignore[no-untyped-call]
        self.near: Any = Party()
        self.far: Any = Party()
        door: Any = Factory()
        door.buildProtocol = lambda _: self.far
        port: Any = reactor.listenTCP(  # type: ignore[attr-defined]
            0, TLSMemoryBIOFactory(own.options(), False, door), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        place: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)  # type: ignore[no-untyped-call]
        creator = by_pin(pin_of(pair.certificate.public_bytes(Encoding.DER)))("localhost")
        inner: Any = Factory()
        inner.buildProtocol = lambda _: self.near
        await place.connect(TLSMemoryBIOFactory(creator, True, inner))

    async def tearDown(self) -> None:
        """Nothing is left."""
        for party in (self.near, self.far):
            if not party.lost:
                party.transport.abortConnection()
        await until(lambda: self.near.lost and self.far.lost, "the end")

    async def arrival(self, count: int) -> None:
        """Wait until so many bytes are there."""
        await until(lambda: self.far.received == count, "what was sent")

    async def test_order(self) -> None:
        """From before the handshake is done, by turns with the transport's own writing."""
        outlet = Outlet(self.near.transport)
        sent = bytearray()
        for turn in range(40):
            pieces = [bytes([turn]) * size for size in (3, 16_384 * (turn % 3), turn * 1000)]
            sent += b"".join(pieces)
            if turn % 4 == 3:
                self.near.transport.write(b"".join(pieces))
            else:
                outlet.write(pieces)
            if turn % 8 == 0:
                await self.arrival(len(sent))
        await self.arrival(len(sent))
        self.assertEqual(self.far.digest.digest(), sha256(sent).digest())

    async def test_waits(self) -> None:
        """Who writes pauses when the socket is full, and goes on when it is not."""
        outlet = Outlet(self.near.transport)
        self.near.transport.write(b"!")
        await until(lambda: self.far.received == 1, "the handshake")
        producer = Producer()
        self.near.transport.registerProducer(producer, True)
        self.far.transport.pauseProducing()
        sent = 1
        while not producer.told:
            outlet.write([bytes(100_000)])
            sent += 100_000
        self.assertEqual(producer.told, ["pause"])
        self.far.transport.resumeProducing()
        await until(lambda: self.far.received == sent, "all bytes")
        await until(lambda: producer.told == ["pause", "resume"], "it to go on")
        self.near.transport.unregisterProducer()

    async def test_lost(self) -> None:
        """What is written after the end goes nowhere, and harms nobody."""
        outlet = Outlet(self.near.transport)
        self.near.transport.write(b"!")
        await until(lambda: self.far.received == 1, "the handshake")
        self.far.transport.abortConnection()
        await until(lambda: self.near.lost, "the end")
        outlet.write([bytes(100_000)])


class ElsewhereTests(SynchronousTestCase):
    """A transport without a socket."""

    def test_write(self) -> None:
        """It gets all of it, joined; and nothing can be set."""
        transport = StringTransport()
        Outlet(transport).write((b"one ", b"two"))
        read_much(transport)
        keep_little_unsent(transport)
        self.assertEqual(transport.value(), b"one two")
        self.assertIsNone(connection_below(transport))
