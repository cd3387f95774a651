"""Tests for L{proxyd.agents.tls}: whom an agent believes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.protocol import Factory
from twisted.internet.ssl import PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from proxyd.agents.tls import Creator, by_authorities, by_pin, pin_of
from proxyd.errors import StartError
from tests.agents.scene import AgentsTestCase, reactor
from tests.net.authority import made
from tests.support.streams import Party, until


class PinTests(SynchronousTestCase):
    """What may stand behind C{--pin}."""

    def test_bad(self) -> None:
        """What is no hash."""
        for pin in ("", "sha256:", "sha256:zz", "md5:" + "0" * 64, "0" * 64, "sha256:" + "0" * 62):
            self.assertRaises(StartError, by_pin, pin)


class BeliefTests(AgentsTestCase):
    """Real handshakes."""

    async def outcome(self, creator: Creator, host: str = "localhost") -> Party:
        """What becomes of a handshake."""
        factory = Factory.forProtocol(Party)
        party: Any = Party()
        factory.buildProtocol = lambda _: party  # type: ignore[method-assign]
        factory.startedConnecting = factory.clientConnectionLost = lambda *_: None  # type: ignore[attr-defined]
        wrapped: Any = TLSMemoryBIOFactory(creator(host), True, factory)
        reactor.connectTCP("127.0.0.1", self.tls_port, wrapped)
        await until(lambda: party.lost or party.received, "an outcome")
        if not party.lost:
            party.transport.abortConnection()
        return party  # type: ignore[no-any-return]

    async def setUp(self) -> None:
        """A server with a certificate of its own."""
        await super().setUp()
        self.pair = made("localhost", names=("localhost",), ca=True)
        own = PrivateCertificate.loadPEM(self.pair.pem + self.pair.key_pem())  # type: ignore[no-untyped-call]

        class Greeting(Party):
            def connectionMade(self) -> None:
                self.stream.write(b"hello")

        port = reactor.listenSSL(
            0, Factory.forProtocol(Greeting), own.options(), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        self.tls_port = port.getHost().port

    async def test_pin(self) -> None:
        """The pinned certificate is believed, whatever the name; another is not."""
        pin = pin_of(self.pair.certificate.public_bytes(Encoding.DER))
        self.assertEqual((await self.outcome(by_pin(pin), "elsewhere.example")).kept, b"hello")
        other = await self.outcome(by_pin("sha256:" + "0" * 64))
        self.assertEqual(other.kept, b"")
        self.assertIn("not the pinned one", str(other.reason))

    async def test_authorities(self) -> None:
        """A CA's certificate for this very name; the system's CAs do not know it."""
        file = Path(self.mktemp())
        file.write_bytes(self.pair.pem)
        creator = by_authorities(str(file))
        self.assertEqual((await self.outcome(creator)).kept, b"hello")
        self.assertEqual((await self.outcome(creator, "other.example")).kept, b"")
        self.assertEqual((await self.outcome(by_authorities(None))).kept, b"")
        self.assertRaises(StartError, by_authorities, "/nonexistent/ca.pem")
