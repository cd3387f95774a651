"""Tests for L{proxyd.socks.udp}."""

from __future__ import annotations

import socket

from proxyd.rules.patterns import pattern
from proxyd.rules.routes import DIRECT, Rule
from tests.net.peers import PATIENCE, until
from tests.socks.scene import LOOPBACK, SocksCase, connect, reply, request, take, threaded


class UdpTests(SocksCase):
    """Datagrams of one client."""

    def datagrams(self) -> socket.socket:
        """A UDP socket on loopback."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE)
        self.closing.append(sock.close)
        return sock

    def associate(self, port: int, named: int = 0) -> tuple[socket.socket, tuple[str, int]]:
        """The TCP connection of an association, and where its datagrams go."""
        sock = connect(port)
        self.closing.append(sock.close)
        sock.sendall(b"\5\1\0" + request("0.0.0.0", named, 3))
        take(sock, 2)
        code, host, udp = reply(sock)
        self.assertEqual(code, 0)
        return sock, (host, udp)

    def send(self, client: socket.socket, to: tuple[str, int], target: tuple[str, int]) -> None:
        """One datagram to a target."""
        client.sendto(b"\0\0\0" + request(*target)[3:] + b"hello", to)

    async def test_each_is_judged(self) -> None:
        """A datagram to where the rules don't let it is dropped; the next one goes."""
        target, other = self.datagrams(), self.datagrams()
        denied = Rule((pattern(f"127.0.0.1:{other.getsockname()[1]}"),), None, number=1)
        port = self.listen(denied, LOOPBACK)
        _, to = await threaded(self.associate, port)
        client = self.datagrams()
        self.send(client, to, other.getsockname())
        self.send(client, to, ("169.254.169.254", 80))
        self.send(client, to, target.getsockname())
        self.assertEqual(await threaded(target.recv, 100), b"hello")
        (session,) = self.listeners[0].sessions
        self.assertEqual((session.up, session.state), (5, "open"))
        other.setblocking(False)
        self.assertRaises(BlockingIOError, other.recv, 100)

    async def test_names(self) -> None:
        """A name is looked up, judged, and remembered; the answer names an address."""
        target, client = self.datagrams(), self.datagrams()
        _, to = await threaded(self.associate, self.listen())
        where = ("localhost", target.getsockname()[1])
        for _ in range(2):
            self.send(client, to, where)
            data, peer = await threaded(target.recvfrom, 100)
            self.assertEqual(data, b"hello")
            target.sendto(b"back", peer)
            answer = await threaded(client.recv, 100)
            self.assertEqual(answer, b"\0\0\0" + request("127.0.0.1", where[1])[3:] + b"back")

    async def test_strangers(self) -> None:
        """Neither another sender's nor an unasked peer's datagrams get through."""
        target, client, stranger = self.datagrams(), self.datagrams(), self.datagrams()
        _, to = await threaded(self.associate, self.listen())
        self.send(client, to, target.getsockname())
        _, peer = await threaded(target.recvfrom, 100)
        self.send(stranger, to, target.getsockname())
        stranger.sendto(b"unasked", peer)
        client.sendto(b"\0\0\1" + request(*target.getsockname())[3:] + b"a fragment", to)
        target.sendto(b"asked", peer)
        self.assertEqual((await threaded(client.recv, 100))[10:], b"asked")
        self.send(client, to, target.getsockname())
        await threaded(target.recv, 100)
        target.setblocking(False)
        self.assertRaises(BlockingIOError, target.recv, 100)

    async def test_named_port(self) -> None:
        """A client that named its port is heard from there only."""
        target, client, stranger = self.datagrams(), self.datagrams(), self.datagrams()
        named = client.getsockname()[1]
        _, to = await threaded(self.associate, self.listen(), named)
        self.send(stranger, to, target.getsockname())
        self.send(client, to, target.getsockname())
        _, peer = await threaded(target.recvfrom, 100)
        target.sendto(b"x", peer)
        self.assertEqual((await threaded(client.recv, 100))[10:], b"x")

    async def test_ends_with_tcp(self) -> None:
        """The association ends with the connection that asked for it."""
        for end in (_close, _reset):
            sock, to = await threaded(self.associate, self.listen())
            (session,) = self.listeners[-1].sessions
            end(sock)
            await until(lambda: not list(self.listeners[-1].sessions), "the end")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(to)
            self.assertEqual(session.state, "open")

    async def test_talk_beside_it(self) -> None:
        """What is said on the TCP connection meanwhile means nothing and is not kept."""
        sock, _ = await threaded(self.associate, self.listen())
        await threaded(sock.sendall, bytes(1 << 20))
        (session,) = self.listeners[0].sessions
        await until(lambda: session.end.received > 1 << 20, "all of it")

    async def test_only_elsewhere(self) -> None:
        """A user for whom nothing goes directly is answered 7."""
        rule = Rule(LOOPBACK.patterns, DIRECT, users=("bob",), number=1)
        port = self.listen(rule, default=None)

        def ask() -> int:
            with connect(port) as sock:
                sock.sendall(b"\5\1\0" + request("0.0.0.0", 0, 3))
                take(sock, 2)
                return reply(sock)[0]

        self.assertEqual(await threaded(ask), 7)


def _close(sock: socket.socket) -> None:
    sock.close()


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
