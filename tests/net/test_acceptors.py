"""Tests for L{proxyd.net.acceptors}: several listening sockets as one."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from proxyd.config.model import Listener
from proxyd.errors import StartError
from proxyd.net.acceptors import Acceptors
from tests.net.peers import until

FREE = Listener("127.0.0.1:0", "tcp", "127.0.0.1", 0)


class AcceptorsTests(TestCase):
    """Two ports on loopback."""

    def setUp(self) -> None:
        self.accepted: list[socket.socket] = []
        self.acceptors = Acceptors(reactor, lambda sock, address: self.accepted.append(sock))
        self.addCleanup(self.acceptors.stop)
        self.addCleanup(lambda: [sock.close() for sock in self.accepted])

    def knock(self) -> None:
        """A client at each."""
        for address in self.acceptors.addresses:
            client = socket.socket()
            self.addCleanup(client.close)
            client.connect(address)  # type: ignore[arg-type]

    async def test_life(self) -> None:
        """Opened, opened anew in the same places, and closed."""
        self.acceptors.open([FREE, FREE], "Friends")
        addresses = self.acceptors.addresses
        self.assertEqual(len(set(addresses)), 2)
        self.knock()
        await self.acceptors.reopen()
        self.assertEqual(self.acceptors.addresses, addresses)
        self.knock()
        await until(lambda: len(self.accepted) == 4, "all clients")
        await self.acceptors.stop()
        self.assertEqual(self.acceptors.addresses, [])
        for address in addresses:
            client = socket.socket()
            self.addCleanup(client.close)
            self.assertRaises(ConnectionRefusedError, client.connect, address)

    async def test_taken(self) -> None:
        """What can't be opened is named, and what was opened before it can be stopped."""
        self.acceptors.open([FREE], "Friends")
        ((_, port),) = self.acceptors.addresses  # type: ignore[misc]
        taken = Listener(f"127.0.0.1:{port}", "tcp", "127.0.0.1", port)
        error = self.assertRaises(StartError, self.acceptors.open, [taken], "Friends")
        self.assertIn(f"127.0.0.1:{port}", str(error))
