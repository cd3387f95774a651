"""Tests for L{proxyd.net.at_once}."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from proxyd.net.at_once import send_at_once
from tests.support.streams import Party, until


class SendTests(TestCase):
    """Bytes arrive once and in order, whoever sent them."""

    async def stand(self) -> tuple[Any, Any, socket.socket]:
        """A transport of Twisted's, its own socket, and the far end."""
        near, far = socket.socketpair()
        near.setblocking(False)
        made: list[Protocol] = []

        def build() -> Protocol:
            made.append(Party())
            return made[0]

        factory: Any = Factory.forProtocol(build)  # type: ignore[arg-type]
        adopting: Any = reactor
        adopting.adoptStreamConnection(near.fileno(), socket.AF_UNIX, factory)
        near.close()
        self.addCleanup(far.close)
        transport: Any = made[0].transport
        self.addCleanup(until, lambda: "lost" in made[0].events, "the end")  # type: ignore[attr-defined]
        self.addCleanup(transport.abortConnection)
        return transport, transport.socket, far

    async def test_all(self) -> None:
        """What the socket takes is sent before the call returns."""
        transport, sock, far = await self.stand()
        self.assertEqual(send_at_once(sock, transport, [b"one ", b"two"]), b"")
        self.assertEqual(far.recv(100, socket.MSG_DONTWAIT), b"one two")

    async def test_order(self) -> None:
        """What is left goes to the transport, and nothing passes what that keeps."""
        transport, sock, far = await self.stand()
        data = os.urandom(3_000_000)
        transport.write(send_at_once(sock, transport, [data[:1_000_000], data[1_000_000:]]))
        last = send_at_once(sock, transport, [b"last"])
        self.assertEqual(last, b"last")
        transport.write(last)
        got = b""
        far.setblocking(False)

        def come() -> bool:
            nonlocal got
            try:
                got += far.recv(1 << 20)
            except BlockingIOError:
                pass
            return len(got) >= len(data) + 4

        await until(come, "all bytes")
        self.assertEqual(got, data + b"last")

    async def test_lost(self) -> None:
        """A socket that is lost is the transport's to notice."""
        transport, sock, far = await self.stand()
        far.close()
        self.assertEqual(send_at_once(sock, transport, [b"to ", b"nobody"]), b"to nobody")
