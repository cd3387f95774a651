"""Tests for L{proxyd.socks.joined}."""

from __future__ import annotations

import hashlib
import os
import socket

from twisted.internet.threads import deferToThread

from proxyd.net.end import End
from proxyd.socks.joined import Joined
from tests.net.peers import LinkCase, exchange, read_all, reset, until


class _Pair(Joined):
    """Writes down how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def received(self, end: End, data: bytes) -> None:
        """Joined, nothing is."""

    def over(self, why: str) -> None:
        self.said.append(why)

    def left(self) -> None:
        self.said.append("left")


class JoinedTests(LinkCase):
    """How two Ends end together."""

    def stand(self) -> tuple[_Pair, socket.socket, socket.socket]:
        """Two joined Ends, and their far ends."""
        pair = _Pair()
        pair.end, client = self.end(pair)  # type: ignore[arg-type]
        pair.target, target = self.end(pair)  # type: ignore[arg-type]
        pair.carry(pair.target)
        return pair, client, target

    async def test_end_each_way(self) -> None:
        """A FIN passes through by itself, in either order."""
        for first in (0, 1):
            pair, *fars = self.stand()
            one, other = fars[first], fars[1 - first]
            one.sendall(b"question")
            one.shutdown(socket.SHUT_WR)
            self.assertEqual(await deferToThread(read_all, other), b"question")
            self.assertEqual(pair.said, [])
            other.sendall(b"answer")
            other.shutdown(socket.SHUT_WR)
            self.assertEqual(await deferToThread(read_all, one), b"answer")
            await until(lambda pair=pair: pair.said, "the end")
            self.assertEqual(pair.said, ["closed"])

    async def test_end_in_the_same_round(self) -> None:
        """What a client of TLS said just before the target's end reaches the target."""
        pair = _Pair()
        end, client = await self.tls_end(pair)  # type: ignore[arg-type]
        pair.end = end
        pair.target, target = self.end(pair)  # type: ignore[arg-type]
        pair.carry(pair.target)
        client.sendall(b"question")
        target.shutdown(socket.SHUT_WR)
        self.assertEqual(await deferToThread(read_all, target), b"question")
        await until(lambda: pair.said, "the end")

    async def test_all_arrives(self) -> None:
        """Both say all and end at once; slow readers still get everything."""
        pair, client, target = self.stand()
        up, down = os.urandom(3 << 20), os.urandom(2 << 20)

        def talk(far: socket.socket, data: bytes, size: int) -> tuple[int, str]:
            got = exchange(far, data, size, 3000)
            far.shutdown(socket.SHUT_WR)
            return got

        one, other = (
            deferToThread(talk, client, up, len(down)),
            deferToThread(talk, target, down, len(up)),
        )
        self.assertEqual(await one, (len(down), hashlib.sha256(down).hexdigest()))
        self.assertEqual(await other, (len(up), hashlib.sha256(up).hexdigest()))
        await until(lambda: pair.said, "the end")

    async def test_ends_with_bytes_to_read(self) -> None:
        """A side that ends first and reads late loses nothing."""
        pair, client, target = self.stand()
        data = os.urandom(6 << 20)
        client.shutdown(socket.SHUT_WR)
        sending = deferToThread(target.sendall, data)
        await until(lambda: pair.end.pending, "a full buffer")
        reading = deferToThread(exchange, client, b"", len(data), 5000)
        await sending
        target.close()
        self.assertEqual(await reading, (len(data), hashlib.sha256(data).hexdigest()))
        await until(lambda: pair.said == ["closed"], "the end")

    async def test_reset(self) -> None:
        """A reset on one side is one on the other."""
        for first, who in ((0, "client"), (1, "target")):
            pair, *fars = self.stand()
            reset(fars[first])
            with self.assertRaises(ConnectionResetError):
                await deferToThread(read_all, fars[1 - first])
            self.assertEqual(pair.said[0][:12], f"{who} lost:")

    async def test_kill(self) -> None:
        """Killed, both are reset."""
        pair, client, target = self.stand()
        pair.kill("because")
        for far in (client, target):
            with self.assertRaises(ConnectionResetError):
                await deferToThread(read_all, far)
        self.assertEqual(pair.said, ["because"])
