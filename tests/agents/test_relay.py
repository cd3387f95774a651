"""Tests for L{proxyd.agents.relay}; tests/agents/test_ports.py has it between real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from proxyd.agents.relay import PORTION, Relay
from proxyd.agents.sockets import READ
from proxyd.config.times import REST_UNREAD
from proxyd.net.pace import Rate


class Side(StringTransport):  # type: ignore[misc]  # Twisted's has no types
    """One side, with what was asked of it."""

    ended = False
    aborted = False
    room = 1 << 20

    def loseWriteConnection(self) -> None:
        """No more is written."""
        self.ended = True

    def abortConnection(self) -> None:
        """It is reset."""
        self.aborted = True


class RelayTests(SynchronousTestCase):
    """Who pauses whom, and how it ends."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.reasons: list[str] = []
        self.tcp: Any = Side()
        self.stream: Any = Side()

    def relay(self, *rates: Rate) -> Relay:
        """Joined."""
        relay = Relay(self.clock, self.reasons.append, inward=rates)
        self.tcp.pauseProducing()
        relay.join(self.tcp, self.stream)
        return relay

    def test_carry(self) -> None:
        """Each way, counted; the TCP side is read from the joining on."""
        relay = self.relay()
        self.assertEqual(self.tcp.producerState, "producing")
        relay.from_tcp(b"in")
        relay.from_stream((b"out!",))
        self.assertEqual((self.stream.value(), self.tcp.value()), (b"in", b"out!"))
        self.assertEqual((relay.inward, relay.outward), (2, 4))

    def test_backpressure(self) -> None:
        """Each is the other's producer."""
        self.relay()
        self.tcp.producer.pauseProducing()
        self.assertEqual(self.stream.producerState, "paused")
        self.tcp.producer.resumeProducing()
        self.assertEqual(self.stream.producerState, "producing")

    def test_rate(self) -> None:
        """What came too fast is waited for, also when the other side takes more meanwhile."""
        relay = self.relay(Rate(1000, self.clock))
        relay.from_tcp(b"x" * 1100)
        self.assertEqual(self.tcp.producerState, "paused")
        self.stream.producer.pauseProducing()
        self.stream.producer.resumeProducing()
        self.assertEqual(self.tcp.producerState, "paused")
        self.clock.advance(1.0)
        self.assertEqual(self.tcp.producerState, "producing")

    def test_rate_in_portions(self) -> None:
        """Where there is a rate, little is carried at a time."""
        self.tcp.bufferSize = self.stream.portion = 1 << 20
        self.relay(Rate(1000, self.clock))
        self.assertEqual((self.tcp.bufferSize, self.stream.portion), (PORTION, 1 << 20))

    def test_many_streams(self) -> None:
        """Where there are many, less is read at a time: from the first read on, and at each."""
        self.stream.room = 20_000
        relay = self.relay()
        self.assertEqual(self.tcp.bufferSize, 20_000)
        self.stream.room = 1 << 20
        relay.from_tcp(b"x")
        self.assertEqual(self.tcp.bufferSize, READ)

    def test_in_order(self) -> None:
        """FIN each way, then both are gone: told once."""
        relay = self.relay()
        relay.tcp_ended()
        self.assertTrue(self.stream.ended)
        relay.stream_ended()
        self.assertTrue(self.tcp.ended)
        relay.tcp_lost(Failure(ConnectionDone()))
        self.assertEqual(self.reasons, [])
        relay.stream_lost(Failure(ConnectionDone()))
        self.assertEqual(self.reasons, ["the user closed"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_rest_unread(self) -> None:
        """One side has closed, and the other does not read the rest: that ends, too."""
        relay = self.relay()
        relay.stream_lost(Failure(ConnectionDone()))
        self.clock.advance(REST_UNREAD - 1)
        self.assertFalse(self.tcp.aborted)
        self.clock.advance(2)
        self.assertTrue(self.tcp.aborted)
        relay.tcp_lost(Failure(ConnectionLost()))
        self.assertEqual(self.reasons, ["the far side closed"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reset(self) -> None:
        """A loss goes on as a reset."""
        relay = self.relay(Rate(1, self.clock))
        relay.from_tcp(b"x" * 100)
        relay.stream_lost(Failure(ConnectionLost("gone")))
        self.assertTrue(self.tcp.aborted)
        relay.tcp_lost(Failure(ConnectionLost()))
        self.assertEqual(len(self.reasons), 1)
        self.assertIn("the far side was lost", self.reasons[0])
        self.assertEqual(self.clock.getDelayedCalls(), [])
