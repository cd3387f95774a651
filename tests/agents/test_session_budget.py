"""Tests for L{proxyd.agents.session}: how much of what came a session may keep."""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.agents.session import AgentSession
from proxyd.wire.agent import frames
from proxyd.wire.agent.frames import Kind
from proxyd.wire.agent.json_session import JsonSession
from proxyd.wire.agent.mux import Mux
from proxyd.wire.agent.stream import Limits
from tests.agents.test_session import DB, Wire
from tests.support.streams import Party


class BudgetTests(SynchronousTestCase):
    """What readers leave unread on all streams of a session together has a limit."""

    KIB = 1024
    LIMITS = Limits(window=64 * KIB, budget=10**9, held=256 * KIB)

    def begin(self, machine: Mux | JsonSession, streams: int) -> AgentSession:
        """A session with so many streams, whose readers are told to the test and read nothing."""
        self.wire = Wire()
        self.clock = Clock()
        session = AgentSession(machine, self.wire, self.clock, 15.0)
        self.readers: list[Any] = []
        for _ in range(streams):
            opening = session.open(DB, {"proxy_id": "p"})
            number = 2 * len(self.readers) + 2
            if isinstance(machine, Mux):
                answer = frames.number_payload(64 * self.KIB)
                session.message_received(frames.frame(Kind.OPEN_OK, number, answer))
            reader: Any = Party()
            reader.paused_at_once = True
            self.successResultOf(opening).attach(reader)
            self.readers.append(reader)
        return session

    def say(self, session: AgentSession, number: int, size: int) -> None:
        """The agent sends something on a stream."""
        if session.has_credit:
            session.message_received(frames.frame(Kind.DATA, number, bytes(size)))
        else:
            data = base64.b64encode(bytes(size)).decode()
            fields = {"proxy_id": "p", "user_id": str(number), "data": data}
            session.message_received(json.dumps({"type": "proxy_data", **fields}))

    def machines(self) -> tuple[Mux | JsonSession, ...]:
        """Both ways to speak."""
        return Mux(opener=True, limits=self.LIMITS), JsonSession(self.LIMITS)

    def over(self, session: AgentSession) -> None:
        """Nothing counts any more when the session is over."""
        session.lost("the test is over")
        self.clock.advance(0)
        self.assertEqual(session.held, 0)

    def test_within(self) -> None:
        """Up to the limit nobody is reset, and what is read counts no more."""
        for machine in self.machines():
            session = self.begin(machine, 4)
            for number in (2, 4, 6, 8):
                self.say(session, number, 60 * self.KIB)
            self.assertEqual(session.held, 240 * self.KIB)
            self.assertEqual(session.streams, 4)
            for reader in self.readers:
                reader.transport.resumeProducing()
                self.assertEqual(reader.received, 60 * self.KIB)
            self.assertEqual(session.held, 0)
            self.over(session)

    def test_beyond(self) -> None:
        """Beyond it those who left the most unread are reset as too slow, and nobody else."""
        for machine in self.machines():
            session = self.begin(machine, 40)
            self.readers[39].transport.resumeProducing()
            for number in range(2, 60, 2):
                self.say(session, number, 2 * self.KIB)
            for number in range(60, 80, 2):
                self.say(session, number, 60 * self.KIB)
                self.say(session, 80, 50 * self.KIB // 20)
                self.assertLessEqual(session.held, 256 * self.KIB)
            self.clock.advance(0)
            lost = [at for at, reader in enumerate(self.readers) if reader.lost]
            self.assertTrue(lost)
            self.assertGreaterEqual(min(lost), 29)
            self.assertNotIn(39, lost)
            self.assertEqual(self.readers[39].received, 10 * (50 * self.KIB // 20))
            self.assertIn("too slow", str(self.readers[lost[0]].reason))
            self.assertEqual(session.lost_because, "")
            self.over(session)

    def test_taken_slowly(self) -> None:
        """What a reader has taken, and pauses upon, still waits somewhere: it counts on."""
        session = self.begin(Mux(opener=True, limits=self.LIMITS), 1)
        reader = self.readers[0]
        reader.dataReceived = lambda data: reader.transport.pauseProducing()
        reader.transport.resumeProducing()
        self.wire.messages.clear()
        self.say(session, 2, 60 * self.KIB)
        self.assertEqual((session.held, self.wire.messages), (60 * self.KIB, []))
        reader.transport.resumeProducing()
        self.assertEqual(session.held, 0)
        credit = frames.frame(Kind.CREDIT, 2, frames.number_payload(60 * self.KIB))
        self.assertEqual(self.wire.messages, [credit])
        self.over(session)

    def test_ended(self) -> None:
        """A stream that both sides have ended is there until it is read, and counts until then."""
        session = self.begin(Mux(opener=True, limits=self.LIMITS), 1)
        self.readers[0].transport.loseWriteConnection()
        self.say(session, 2, 60 * self.KIB)
        session.message_received(frames.frame(Kind.FIN, 2))
        self.assertEqual((session.machine.streams_open, session.held), (0, 60 * self.KIB))
        self.readers[0].transport.abortConnection()
        self.assertEqual(session.held, 0)
        self.over(session)
