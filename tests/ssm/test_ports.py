"""Tests for L{proxyd.ssm.ports}: turns, holding back, and streams in one session."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.times import LAST_BYTES, SsmTimes
from proxyd.errors import DialError, DialFailure
from proxyd.net.failover import WayLost
from proxyd.ssm.ports import MOST_KEPT, BasicPort, MuxPort
from proxyd.target import Target
from proxyd.wire.ssm import message as wire
from proxyd.wire.ssm.channel import Channel
from proxyd.wire.ssm.handshake import Handshake
from proxyd.wire.ssm.smux import NOP
from tests.support.streams import Party
from tests.wire.ssm.test_smux import frame

TARGET = Target("db", 5432)


class FakeSession:
    """A session of memory, as far as a port uses one."""

    def __init__(self) -> None:
        self.channel = Channel(lambda: bytes(16), 1e9)
        self.handshake = Handshake()
        self.writable = True
        self.held = False
        self.ended = False

    def send(self, data: bytes) -> None:
        """Send."""
        self.channel.send_data(data, 0)

    def flush(self) -> None:
        """Nothing waits."""

    def hold(self, held: bool) -> None:
        """Hold back."""
        self.held = held

    def end(self) -> None:
        """End."""
        self.ended = True

    def sent(self) -> bytes:
        """All bytes that were sent since the last call."""
        return b"".join(wire.parse(data).payload for data in self.channel.messages_to_send())


class PortCase(SynchronousTestCase):
    """A port on a session of memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.session: Any = FakeSession()

    def mux(self) -> MuxPort:
        """A port for many streams."""
        port = MuxPort(self.clock, SsmTimes(), TARGET)
        port.session = self.session
        return port

    def opened(self, port: MuxPort) -> Any:
        """A stream in it, with who reads it."""
        opening = port.open()
        number = max(port.streams)
        port.data_received(frame(2, number, b"!"))
        stream = self.successResultOf(opening)
        party: Any = Party()
        stream.attach(party)
        return stream, party


class MuxPortTests(PortCase):
    """Many streams in one session."""

    def test_taken_for_made(self) -> None:
        """Not refused a moment after the agent has taken it, a stream counts as made."""
        port = self.mux()
        opening = port.open()
        self.assertEqual(self.session.sent(), frame(0, 3))
        self.clock.advance(100)
        self.assertNoResult(opening)
        of = wire.Message(wire.INPUT, 0, 0, bytes(16), 1, 1, b"x")
        self.session.channel.receive(wire.acknowledgement(of, bytes(16), 1), 0)
        port.progress()
        self.assertNoResult(opening)
        self.clock.advance(SsmTimes().refusal)
        self.assertEqual(self.successResultOf(opening).number, 3)

    def test_first_byte_proves_it(self) -> None:
        """A server that speaks first needs no such moment."""
        _, party = self.opened(self.mux())
        self.assertEqual(party.kept, b"!")

    def test_refused(self) -> None:
        """The stream's end, before any byte, is a refusal, which we answer with our end."""
        port = self.mux()
        opening = port.open()
        self.session.sent()
        port.flag_received(wire.CONNECT_TO_PORT_ERROR)
        self.assertNoResult(opening)
        port.data_received(frame(1, 3))
        self.assertIs(self.failureResultOf(opening, DialError).value.failure, DialFailure.REFUSED)
        self.assertEqual(self.session.sent(), frame(1, 3))
        self.assertEqual(port.streams, {})

    def test_given_up(self) -> None:
        """Who does not wait any longer leaves nothing behind."""
        port = self.mux()
        opening = port.open()
        opening.cancel()
        opening.addErrback(lambda _: None)
        self.assertEqual(self.session.sent(), frame(0, 3) + frame(1, 3))
        self.assertEqual(port.streams, {})

    def test_turns(self) -> None:
        """While there is no room all wait, and then they go one after the other."""
        port = self.mux()
        (one, _), (two, _) = self.opened(port), self.opened(port)
        self.session.sent()
        self.session.writable = False
        one.write(b"a" * 40_000)
        two.write(b"b" * 100)
        self.assertEqual(self.session.sent(), b"")
        self.session.writable = True
        port.progress()
        sent = self.session.sent()
        self.assertEqual((sent.count(b"a"), sent.count(b"b")), (40_000, 100))
        self.assertLess(sent.index(b"b"), 20_000)

    def test_last_bytes(self) -> None:
        """What waits when its writer has gone is sent as long as some of it is taken, no longer."""
        port = self.mux()
        stream, party = self.opened(port)
        self.session.writable = False
        stream.write(b"a" * 60_000)
        stream.loseConnection()
        self.clock.advance(LAST_BYTES - 1)
        stream.turn()  # it is taken, bit by bit
        self.clock.advance(LAST_BYTES - 1)
        self.assertFalse(party.lost)
        self.session.sent()
        self.clock.advance(LAST_BYTES)
        self.clock.advance(0)
        self.assertTrue(party.lost)
        self.assertEqual(self.session.sent(), frame(1, 3))
        self.assertEqual(port.streams, {})

    def test_last_bytes_are_taken(self) -> None:
        """When all is sent nothing is left to wait for; nor when the session is gone."""
        port = self.mux()
        (one, party), (two, other) = self.opened(port), self.opened(port)
        self.session.writable = False
        for stream in (one, two):
            stream.write(b"a" * 100)
            stream.loseConnection()
        one.turn()
        port.session_over(DialError(DialFailure.LOST, "gone"))
        self.clock.advance(0)
        self.assertTrue(party.lost and other.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_held_back_and_cut_off(self) -> None:
        """One that is not read holds the session, and is cut off where others share it."""
        port = self.mux()
        (stuck, lost), (other, party) = self.opened(port), self.opened(port)
        stuck.pauseProducing()
        for _ in range(MOST_KEPT // 50_000 + 1):
            port.data_received(frame(2, stuck.number, bytes(50_000)))
        self.assertTrue(self.session.held)
        self.clock.advance(SsmTimes().stuck)
        self.clock.advance(0)
        self.assertTrue(lost.lost)
        self.assertFalse(self.session.held)
        port.data_received(frame(2, other.number, b"?"))
        self.assertEqual(party.kept, b"!?")

    def test_alone_it_may_take_its_time(self) -> None:
        """One that is alone is waited for as long as it takes."""
        port = self.mux()
        stuck, party = self.opened(port)
        stuck.pauseProducing()
        for _ in range(MOST_KEPT // 50_000 + 1):
            port.data_received(frame(2, stuck.number, bytes(50_000)))
        self.clock.advance(SsmTimes().stuck)
        self.assertTrue(self.session.held)
        stuck.resumeProducing()
        self.assertFalse(self.session.held)
        self.assertFalse(party.lost)

    def test_old_agents(self) -> None:
        """One that would end a quiet session is told that we live."""
        port = self.mux()
        port.begin()
        self.assertEqual(self.session.sent(), NOP)
        self.clock.advance(10)
        self.assertEqual(self.session.sent(), NOP)
        port.session_over(DialError(DialFailure.LOST, "ended"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_session_over(self) -> None:
        """What is being opened may go another way; what was open has ended."""
        port = self.mux()
        _, party = self.opened(port)
        opening = port.open()
        port.session_over(DialError(DialFailure.LOST, "gone"))
        self.failureResultOf(opening, WayLost)
        self.clock.advance(0)
        self.assertIn("gone", str(party.reason))


class BasicPortTests(PortCase):
    """One connection in a session."""

    def test_life(self) -> None:
        """Bytes as they are; its end is the session's."""
        port = BasicPort(self.clock, SsmTimes(), TARGET)
        port.session = self.session
        port.data_received(b"SSH-2.0-x")
        self.successResultOf(port.first)
        party: Any = Party()
        port.stream.attach(party)
        self.assertEqual(party.kept, b"SSH-2.0-x")
        port.stream.write(b"\n")
        self.assertEqual(self.session.sent(), b"\n")
        port.flag_received(3)
        port.stream.loseConnection()
        self.assertTrue(self.session.ended)
