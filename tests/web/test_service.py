"""Tests for L{proxyd.web.service}: listeners of every kind, TLS, and the end of it."""

from __future__ import annotations

import select
import socket
import ssl
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource

from proxyd.config.model import Listener
from proxyd.errors import StartError
from proxyd.net.certificates import own_certificate
from proxyd.net.tls import server_context
from proxyd.web.service import Web
from tests.web.scene import LOOPBACK, ApiTestCase


class StopTests(ApiTestCase):
    """How it starts and stops."""

    async def test_nobody_is_kept(self) -> None:
        """A stop ends connections that wait, and frees the port."""
        from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
        from twisted.internet.protocol import Protocol

        protocol = Protocol()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        await connectProtocol(endpoint, protocol)
        await self.until(self.web.clients)
        await self.web.stopService()
        self.assertEqual(self.web.clients(), 0)
        self.assertEqual(self.web.urls(), [])
        place = Listener(f"127.0.0.1:{self.port}", "tcp", "127.0.0.1", self.port)
        again = Web(reactor, Resource(), [place], self.path, None, lambda *_: None)
        again.open()
        again.startService()
        await again.stopService()

    async def test_port_taken(self) -> None:
        """A port that is taken is one line; the UNIX socket of another proxyd, too."""
        place = Listener(f"127.0.0.1:{self.port}", "tcp", "127.0.0.1", self.port)
        second = Web(reactor, Resource(), [place], self.path + "2", None, lambda *_: None)
        error = self.assertRaises(StartError, second.open)
        self.assertIn("Address already in use", str(error))
        second = Web(reactor, Resource(), [], self.path, None, lambda *_: None)
        self.assertIn("another proxyd", str(self.assertRaises(StartError, second.open)))


class FloodTests(ApiTestCase):
    """Clients that do not stop."""

    async def test_giant_body(self) -> None:
        """A body without end is answered 413, and next to nothing of it is read."""

        def flood() -> tuple[int, bytes]:
            head = b"POST /api/tokens HTTP/1.1\r\nHost: localhost\r\n"
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as client:
                client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
                client.setblocking(False)
                sent, answer = 0, b""
                while not answer:
                    select.select([client], [client], [], 30)
                    try:
                        answer = client.recv(65536)
                    except BlockingIOError:
                        sent += client.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                return sent, answer

        sent, answer = await deferToThread(flood)
        self.assertIn(b" 413 ", answer)
        self.assertIn(b'"too_large"', answer)
        self.assertLess(sent, 64 * 1024 * 1024)
        await self.until(lambda: not self.web.clients())

    async def test_slow_clients(self) -> None:
        """Many that send their request in drops keep nobody else out."""
        slow = []
        for _ in range(100):
            client = socket.socket()
            self.addCleanup(client.close)
            client.connect(("127.0.0.1", self.port))
            client.send(b"GET /healthz HTTP/1.1\r\nHost: loc")
            slow.append(client)
        await self.until(lambda: self.web.clients() == 100)
        self.assertEqual((await self.ask("GET", "/healthz")).status, 200)
        for client in slow:
            client.close()
        await self.until(lambda: not self.web.clients())


class TlsTests(TestCase):
    """HTTPS."""

    async def test_certificate(self) -> None:
        """Clients get the certificate, a reloaded one too; HTTP/2 is not offered."""
        with tempfile.TemporaryDirectory(prefix="pxd") as folder:
            first = own_certificate(f"{folder}/1", names=(), clock=reactor)
            second = own_certificate(f"{folder}/2", names=(), clock=reactor)
            alpn = (b"http/1.1",)
            web = Web(
                reactor,
                Resource(),
                [LOOPBACK],
                f"{folder}/s",
                server_context(*first, alpn=alpn),
                lambda *_: None,
            )
            web.open()
            web.startService()
            self.addCleanup(web.stopService)
            url = web.urls()[0]
            self.assertTrue(url.startswith("https://127.0.0.1:"))
            port = int(url.rpartition(":")[2])
            seen = await deferToThread(self.shake, port, f"{folder}/1/ca.pem")
            self.assertEqual(seen, "http/1.1")
            web.tls.context = server_context(*second, alpn=alpn)
            await deferToThread(self.shake, port, f"{folder}/2/ca.pem")
            self.assertTrue(Path(f"{folder}/s").exists())

    def shake(self, port: int, ca: str) -> str | None:
        """A client's handshake; the protocol agreed upon."""
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            return secure.selected_alpn_protocol()
