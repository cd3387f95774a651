"""Tests for L{proxyd.socks.bind}."""

from __future__ import annotations

import socket

from proxyd.rules.patterns import pattern
from proxyd.rules.routes import Rule
from tests.net.peers import PATIENCE
from tests.socks.scene import SocksCase, connect, reply, request, take, threaded


class BindTests(SocksCase):
    """A connection that comes from outside."""

    def ask(self, port: int, peer: str = "127.0.0.1") -> tuple[socket.socket, int, tuple[str, int]]:
        """The client's connection, the first reply's code, and where the peer is to come."""
        sock = connect(port)
        self.closing.append(sock.close)
        sock.sendall(b"\5\1\0" + request(peer, 20, 2))
        take(sock, 2)
        code, host, bound = reply(sock)
        return sock, code, (host, bound)

    async def test_the_named_peer(self) -> None:
        """It comes, is told to the client by a second reply, and the two talk."""
        port = self.listen(bind=True)
        sock, code, where = await threaded(self.ask, port)
        self.assertEqual((code, where[0]), (0, "127.0.0.1"))
        with socket.create_connection(where, PATIENCE) as peer:
            self.assertEqual(await threaded(reply, sock), (0, *peer.getsockname()))
            sock.sendall(b"220 hello")
            self.assertEqual(await threaded(take, peer, 9), b"220 hello")
            peer.sendall(b"data")
            peer.shutdown(socket.SHUT_WR)
            self.assertEqual(await threaded(take, sock, 100), b"data")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(where, PATIENCE)

    async def test_a_stranger(self) -> None:
        """Somebody else is sent away, and the named peer is waited for still."""
        port = self.listen(bind=True)
        sock, code, where = await threaded(self.ask, port, "127.0.0.2")
        self.assertEqual(code, 0)
        with socket.create_connection(where, PATIENCE) as stranger:
            self.assertEqual(await threaded(take, stranger, 1), b"")
        with socket.socket() as peer:
            peer.settimeout(PATIENCE)
            peer.bind(("127.0.0.2", 0))
            peer.connect(where)
            self.assertEqual((await threaded(reply, sock))[:2], (0, "127.0.0.2"))

    async def test_nobody(self) -> None:
        """Where nobody comes in time, the second reply says so."""
        port = self.listen(bind=True, connect_timeout=0.2)
        sock, code, _ = await threaded(self.ask, port)
        self.assertEqual((code, (await threaded(reply, sock))[0]), (0, 4))

    async def test_client_leaves(self) -> None:
        """The port is closed with the client."""
        port = self.listen(bind=True)
        sock, _, where = await threaded(self.ask, port)
        sock.close()
        await threaded(lambda: None)
        while list(self.listeners[0].sessions):
            await threaded(lambda: None)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(where, PATIENCE)

    async def test_denied(self) -> None:
        """A peer that the rules deny is not waited for."""
        port = self.listen(Rule((pattern("127.0.0.0/8"),), None, number=1), bind=True)
        _, code, _ = await threaded(self.ask, port)
        self.assertEqual(code, 2)
