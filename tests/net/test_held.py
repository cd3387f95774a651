"""Tests for L{proxyd.net.held}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from proxyd.net.held import HELD, Held, end_for, socket_of
from tests.net.peers import PATIENCE, LinkCase, until


class _Splice:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def from_way(self, data: bytes) -> None:
        self.told.append(data)

    def way_ended(self) -> None:
        self.told.append("ended")

    def way_lost(self, reason: Failure) -> None:
        self.told.append(reason.type)


class HeldTests(LinkCase):
    """A connection that waits to be carried."""

    def test_kept(self) -> None:
        """What a way brings too early comes later, in order, with its end."""
        held = Held()
        transport = StringTransport()
        held.makeConnection(transport)
        self.assertEqual(transport.producerState, "paused")
        held.dataReceived(b"one")
        held.readConnectionLost()
        splice: Any = _Splice()
        held.carried_by(splice)
        held.writeConnectionLost()
        held.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(splice.told, [b"one", "ended", ConnectionLost])

    def test_lost_before(self) -> None:
        """So does its loss."""
        held = Held()
        held.makeConnection(StringTransport())
        held.connectionLost(Failure(ConnectionDone()))
        splice: Any = _Splice()
        held.carried_by(splice)
        held.dataReceived(b"late")
        held.readConnectionLost()
        self.assertEqual(splice.told, [ConnectionDone, b"late", "ended"])

    async def test_descriptor(self) -> None:
        """A TCP connection lends its own, so that nothing is between."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            held = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(HELD)
            far, _ = listening.accept()
        self.fars.append(far)
        far.settimeout(PATIENCE)
        assert isinstance(held, Held)
        sock = socket_of(held.transport)
        assert sock is not None
        end = end_for(self.link, reactor, held, self.subject)
        self.ends.append(end)
        end.resume()
        far.sendall(b"hello")
        await until(lambda: self.subject.data.get(end) == b"hello", "the bytes")
        end.write(b"bye")
        self.assertEqual(await deferToThread(far.recv, 10), b"bye")
        self.assertIsNone(socket_of(StringTransport()))
