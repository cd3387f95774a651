"""Tests for L{proxyd.postgres.opening}: what comes before a login."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from proxyd.errors import DialError, DialFailure
from proxyd.postgres.conversation import Conversation
from proxyd.postgres.manner import manner_of
from proxyd.postgres.opening import Opening, channel_binding
from proxyd.target import Target
from tests.net.authority import Pair, made
from tests.postgres import fakeserver
from tests.postgres.client import until
from tests.postgres.scene import ANN, SceneTestCase


class Stuffer(Protocol):
    """Answers the request for TLS with more than one byte."""

    def dataReceived(self, data: bytes) -> None:
        """Somebody asks for TLS."""
        self.transport.write(b"S" + fakeserver.error("28000", "give me your password", "FATAL"))


class OpeningTestCase(SceneTestCase):
    """Connections up to where a login can begin."""

    async def opened(self, way: str = "tls", **words: str) -> Conversation:
        """A connection; closed at the end."""
        mode = words.pop("sslmode", "require")
        dsn = self.dsn(sslmode=mode, parameters=words)
        opening = Opening(dsn, manner_of(dsn), self.dialer, self.link, reactor)
        host = dsn.hosts[0]
        conversation, _ = await opening.open(host, host, way, ANN)
        self.addCleanup(conversation.end.abort)
        return conversation

    async def failure(self, way: str = "tls", **words: str) -> DialError:
        """How it fails; nothing is left of it."""
        try:
            await self.opened(way, **words)
        except DialError as failed:
            await until(lambda: self.link.ends == 0, "the connection to be dropped")
            return failed
        return self.fail("there was a connection")


class DirectTests(OpeningTestCase):
    """sslnegotiation=direct."""

    async def test_direct(self) -> None:
        """TLS from the first byte on, with a server that says by ALPN what it is."""
        self.fake.tls = self.fake.alpn = True
        conversation = await self.opened(sslnegotiation="direct")
        assert conversation.end.secure is not None
        connection = conversation.end.secure.connection
        self.assertEqual(connection.get_alpn_proto_negotiated(), b"postgresql")
        self.assertTrue(self.fake.seen[-1].secure)

    async def test_alpn_is_a_must(self) -> None:
        """One that does not say so may be any service that was talked into it (ALPACA)."""
        self.fake.tls = True
        failed = await self.failure(sslnegotiation="direct")
        self.assertIs(failed.failure, DialFailure.TLS)
        self.assertIn("ALPN", str(failed))

    async def test_asked_for(self) -> None:
        """Where TLS is asked for, an older server says nothing by ALPN and is believed."""
        self.fake.tls = True
        conversation = await self.opened()
        self.assertIsNotNone(conversation.end.secure)


class ServerNameTests(OpeningTestCase):
    """sslsni."""

    async def test_server_name(self) -> None:
        """The handshake names the DSN's host, unless it must not."""
        self.fake.tls = True
        dsn = self.dsn(hosts=(Target("localhost", self.fake.port),), sslmode="require")
        for words in ({}, {"sslsni": "0"}):
            said = replace(dsn, parameters=words)
            opening = Opening(said, manner_of(said), self.dialer, self.link, reactor)
            conversation, _ = await opening.open(said.hosts[0], said.hosts[0], "tls", ANN)
            conversation.end.abort()
        self.assertEqual(self.fake.names, [b"localhost", None])


class StuffingTests(OpeningTestCase):
    """What comes before TLS is believed of nobody."""

    async def test_more_than_the_answer(self) -> None:
        """
        Bytes behind the C{S} came in clear, and end it (CVE-2021-23222).

        Nor is an error that came so told to anybody (CVE-2024-10977).
        """
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Stuffer))
        self.addCleanup(port.stopListening)
        dsn = self.dsn(sslmode="prefer", hosts=(Target("127.0.0.1", port.getHost().port),))
        opening = Opening(dsn, manner_of(dsn), self.dialer, self.link, reactor)
        try:
            await opening.open(dsn.hosts[0], dsn.hosts[0], "tls?", ANN)
        except DialError as failed:
            self.assertIs(failed.failure, DialFailure.TLS)
            self.assertNotIn("password", str(failed))
        else:
            self.fail("it was believed")


class BindingTests(OpeningTestCase):
    """tls-server-end-point of the certificate that was shown."""

    async def binding(self, pair: Pair) -> bytes | None:
        """The channel binding with a server that shows this certificate."""
        self.fake.tls, self.fake.pair = True, pair
        return channel_binding(await self.opened())

    async def test_bound(self) -> None:
        """The certificate's own hash."""
        pair = made("127.0.0.1", hash_algorithm=hashes.SHA384())
        self.assertEqual(await self.binding(pair), pair.certificate.fingerprint(hashes.SHA384()))

    async def test_none_defined(self) -> None:
        """There is none for Ed25519: its signature has no hash of its own."""
        pair = made("127.0.0.1", key=ed25519.Ed25519PrivateKey.generate())
        self.assertIsNone(await self.binding(pair))

    async def test_without_tls(self) -> None:
        """Nor without TLS."""
        self.assertIsNone(channel_binding(await self.opened("plain", sslmode="disable")))


class VersionTests(OpeningTestCase):
    """ssl_min_protocol_version and ssl_max_protocol_version."""

    async def test_version(self) -> None:
        """Both reach the handshake."""
        self.fake.tls = True
        for version in ("TLSv1.2", "TLSv1.3"):
            words: Any = {"ssl_min_protocol_version": version, "ssl_max_protocol_version": version}
            conversation = await self.opened(**words)
            assert conversation.end.secure is not None
            connection = conversation.end.secure.connection
            self.assertEqual(connection.get_protocol_version_name(), version)
