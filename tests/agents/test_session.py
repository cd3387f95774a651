"""Tests for L{proxyd.agents.session}: both ends on one clock, with a wire of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from proxyd.agents.session import AgentSession
from proxyd.agents.stride import MOST
from proxyd.errors import DialError, DialFailure, ProtocolError
from proxyd.target import Target
from proxyd.wire.agent import frames
from proxyd.wire.agent.frames import Code, Kind
from proxyd.wire.agent.json_session import JsonSession
from proxyd.wire.agent.mux import Mux
from proxyd.wire.agent.outbox import HIGH
from proxyd.wire.agent.stream import Limits
from tests.support.streams import Party

DB = Target("db.internal", 5432)


class Wire:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.messages: list[bytes | str] = []
        self.pings = 0
        self.ended = ""

    def send(self, message: str) -> None:
        """Keep it."""
        self.messages.append(message)

    def send_pieces(self, pieces: Sequence[bytes | memoryview], size: int) -> None:
        """Keep them, joined."""
        message = b"".join(pieces)
        assert len(message) == size
        self.messages.append(message)

    def ping(self) -> None:
        """Count it."""
        self.pings += 1

    def close(self, reason: str) -> None:
        """Closed in order."""
        self.ended = f"closed: {reason}"

    def abort(self) -> None:
        """Closed at once."""
        self.ended = "aborted"


@implementer(IPushProducer)
class Writer:
    """Whoever writes to a stream: what it was told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        """No more."""
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        """More."""
        self.calls.append("resume")

    def stopProducing(self) -> None:
        """Nothing at all."""


class SessionTests(SynchronousTestCase):
    """Opening, giving up, silence, the end."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wires = Wire(), Wire()
        self.asked: list[tuple[int, Any]] = []
        self.gone: list[str] = []
        self.server = AgentSession(
            Mux(opener=True, limits=Limits(streams=3)),
            self.wires[0],
            self.clock,
            15.0,
            gone=self.gone.append,
        )
        self.agent = AgentSession(
            Mux(opener=False),
            self.wires[1],
            self.clock,
            15.0,
            taker=lambda number, fields: self.asked.append((number, fields)),
        )

    def test_unread(self) -> None:
        """An agent that reads nothing, and says that it is there, is cut off: nothing grows."""
        self.server.pauseProducing()
        for _ in range(20_000):
            if self.wires[0].ended:
                break
            self.server.heard()
            opening = self.server.open(DB, {})
            opening.addErrback(lambda failure: failure.trap(CancelledError, DialError))
            opening.cancel()
        self.assertEqual(self.wires[0].ended, "aborted")
        self.assertEqual(self.gone, ["it reads too little of what it is told"])

    def carry(self) -> None:
        """Bring what was sent to the other side, until both are silent."""
        while self.wires[0].messages or self.wires[1].messages:
            for wire, other in ((self.wires[0], self.agent), (self.wires[1], self.server)):
                messages, wire.messages = wire.messages, []
                for message in messages:
                    other.message_received(message)

    def test_open(self) -> None:
        """The agent learns where to; what it accepts is a stream."""
        opening = self.server.open(DB, {"proxy_id": "p"})
        self.carry()
        ((number, fields),) = self.asked
        self.assertEqual((fields["remote_host"], fields["remote_port"]), ("db.internal", 5432))
        self.assertNoResult(opening)
        self.agent.accept(number, DB)
        self.carry()
        self.assertEqual(self.successResultOf(opening).target, DB)
        self.assertEqual((self.server.streams, self.agent.streams), (1, 1))

    def test_full_and_empty_at_once(self) -> None:
        """A writer who gives much, all of which goes at once, is not left waiting."""
        machines: tuple[Mux | JsonSession, ...] = (Mux(opener=True), JsonSession())
        for machine in machines:
            session = AgentSession(machine, Wire(), self.clock, 15.0)
            session.open(Target("db", 1), {"proxy_id": "p", "user_id": "u"})
            if isinstance(machine, Mux):
                number = frames.number_payload(1024 * 1024)
                session.message_received(frames.frame(Kind.OPEN_OK, 2, number))
            stream = session._streams[2]
            writer = Writer()
            stream.registerProducer(writer, True)
            for _ in range(3):
                stream.write(b"x" * (HIGH + 1))
            self.assertEqual(writer.calls[-1], "resume", type(machine).__name__)
            session.end("over")

    def test_refused(self) -> None:
        """Each code has its own failure."""
        for code, failure in (
            (Code.REFUSED, DialFailure.REFUSED),
            (Code.DENIED, DialFailure.DENIED),
            (Code.NAME, DialFailure.NAME),
            (Code.INTERNAL, DialFailure.BROKEN),
        ):
            opening = self.server.open(DB, {})
            self.carry()
            self.agent.refuse(self.asked[-1][0], code, "because")
            self.carry()
            error = self.failureResultOf(opening, DialError).value
            self.assertEqual(error.failure, failure)
            self.assertIn("because", str(error))

    def test_given_up(self) -> None:
        """Who waits no longer leaves nothing behind at either end."""
        opening = self.server.open(DB, {})
        self.carry()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.carry()
        self.assertEqual(self.server.machine.streams_open, 0)
        self.assertEqual(self.agent.machine.streams_open, 0)

    def test_too_many(self) -> None:
        """More than a session may have fail at once."""
        openings = [self.server.open(DB, {}) for _ in range(4)]
        error = self.failureResultOf(openings[3], DialError).value
        self.assertEqual(error.failure, DialFailure.BROKEN)
        for opening in openings[:3]:
            opening.cancel()
            self.failureResultOf(opening, CancelledError)

    def test_silence(self) -> None:
        """A peer that says nothing for three pings is dead, and who waits is told."""
        opening = self.server.open(DB, {})
        self.clock.pump([15.0] * 3)
        self.assertEqual((self.wires[0].pings, self.wires[0].ended), (3, ""))
        self.clock.advance(15.0)
        self.assertEqual(self.wires[0].ended, "aborted")
        self.assertEqual(self.gone, ["silent for 45 s"])
        self.assertEqual(self.failureResultOf(opening, DialError).value.failure, DialFailure.LOST)

    def test_life(self) -> None:
        """A pong, or any message, is a sign of life."""
        for _ in range(5):
            self.clock.advance(15.0)
            self.carry()
        self.assertEqual(self.gone, [])
        self.assertEqual(self.server.round_trip, 0.0)

    def test_paused(self) -> None:
        """While the WebSocket takes no more, nothing is sent; then all of it."""
        self.server.pauseProducing()
        opening = self.server.open(DB, {})
        self.assertEqual(self.wires[0].messages, [])
        self.server.resumeProducing()
        self.assertEqual(len(self.wires[0].messages), 1)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)

    def test_slow_line(self) -> None:
        """Where a message takes long the next one is shorter."""
        opening = self.server.open(DB, {})
        self.carry()
        self.agent.accept(2, DB).attach(Party())
        self.carry()
        stream = self.successResultOf(opening)
        sizes = []
        for seconds in (0.001, 0.3, 0.3):
            self.server.pauseProducing()
            stream.write(bytes(2 * MOST))
            self.clock.advance(seconds)
            self.server.resumeProducing()
            sizes.append(max(map(len, self.wires[0].messages)))
            self.carry()
        self.assertGreaterEqual(sizes[0], MOST)
        self.assertLess(sizes[1], MOST)
        self.assertLess(sizes[2], MOST // 2)

    def left_stream(self, size: int) -> Party:
        """A stream whose user has sent so much and left; who reads it at the agent."""
        opening = self.server.open(DB, {})
        self.carry()
        reader = Party()
        reader.paused_at_once = True
        self.agent.accept(2, DB).attach(reader)
        self.carry()
        stream = self.successResultOf(opening)
        stream.attach(Party())
        stream.write(bytes(size))
        stream.loseConnection()
        self.carry()
        self.assertEqual((self.server.streams, self.server.machine.streams_open), (0, 1))
        return reader

    def wait(self, seconds: int) -> None:
        """Let time go by, both ends being alive."""
        for _ in range(seconds // 15):
            self.clock.advance(15.0)
            self.carry()

    def test_last_bytes_not_taken(self) -> None:
        """What a user who has left has sent waits for its reader, but not for ever."""
        for size in (2 * 1024 * 1024, 0):  # an end that is not answered is the same
            self.setUp()
            reader = self.left_stream(size)
            self.wait(45)
            self.assertEqual(self.server.machine.streams_open, 1)
            self.wait(90)
            self.assertEqual(self.server.machine.streams_open, 0)
            self.assertEqual(self.agent.machine.streams_open, 0)
            self.clock.advance(0)
            self.assertTrue(reader.lost)
            self.assertEqual(self.gone, [])

    def test_last_bytes_taken(self) -> None:
        """A reader who takes them in his time gets all of them."""
        reader = self.left_stream(2 * 1024 * 1024)
        self.wait(45)
        reader.transport.resumeProducing()
        self.carry()
        self.assertEqual(reader.received, 2 * 1024 * 1024)
        reader.transport.loseConnection()
        self.carry()
        self.assertEqual(self.server.machine.streams_open, 0)

    def test_broken(self) -> None:
        """A peer that breaks the protocol is told, and gone."""
        self.assertRaises(ProtocolError, self.server.message_received, b"\4")
        self.assertTrue(self.wires[0].ended.startswith("closed: "))
        self.assertEqual(len(self.gone), 1)
        self.server.message_received(b"more")

    def test_end(self) -> None:
        """The other side hears why."""
        self.server.end("proxyd stops")
        self.carry()
        self.assertEqual(self.agent.lost_because, "the peer says: proxyd stops")
        error = self.failureResultOf(self.server.open(DB, {}), DialError).value
        self.assertEqual(error.failure, DialFailure.LOST)

    def tearDown(self) -> None:
        """Nobody's timer is left."""
        for session in (self.server, self.agent):
            session.lost("the test is over")
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
