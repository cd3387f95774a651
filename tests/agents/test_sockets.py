"""Tests for L{proxyd.agents.sockets}, on real sockets."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.agents.sockets import (
    READ,
    UNSENT,
    Outlet,
    connection_below,
    keep_little_unsent,
    read_much,
)
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
        keep_little_unsent(wrapped)
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
