"""Tests for L{proxyd.agents.stream}; its manners are tested with those of all streams."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.agents.stream import STUCK, AgentStream
from proxyd.target import Target
from proxyd.wire.agent.frames import Code
from tests.support.streams import Party


class Session:
    """What a stream asks of its session."""

    def __init__(self, has_credit: bool) -> None:
        self.has_credit = has_credit
        self.resets: list[Code] = []
        self.taken = 0
        self.held = 0
        self.soon: list[Any] = []

    def consumed(self, number: int, count: int) -> None:
        """Taken."""
        self.taken += count

    def reset(self, number: int, code: Code, text: str = "") -> None:
        """Given up."""
        self.resets.append(code)

    def left(self, stream: AgentStream) -> None:
        """Gone."""

    def call_soon(self, work: Any) -> None:
        """Later."""
        self.soon.append(work)


class StuckTests(SynchronousTestCase):
    """A reader who takes nothing."""

    def stream(self, has_credit: bool) -> tuple[AgentStream, Any]:
        """A stream whose reader pauses."""
        session: Any = Session(has_credit)
        stream = AgentStream(session, 2, Target("db", 1))
        party = Party()
        party.paused_at_once = True
        stream.attach(party)
        return stream, session

    def test_without_credit(self) -> None:
        """Where the agent can't be held back the stream is reset at C{STUCK} bytes."""
        stream, session = self.stream(has_credit=False)
        for _ in range(STUCK // 65536):
            stream.data_received((b"x" * 65536,))
        self.assertEqual(session.resets, [])
        stream.data_received((b"x",))
        self.assertEqual(session.resets, [Code.SLOW])
        self.assertFalse(stream.alive)

    def test_with_credit(self) -> None:
        """Where it can, its credit is what bounds it: nothing is taken, so nothing more comes."""
        stream, session = self.stream(has_credit=True)
        stream.data_received((b"x" * (STUCK + 1),))
        self.assertEqual((session.resets, session.taken), ([], 0))
        stream.resumeProducing()
        self.assertEqual(session.taken, STUCK + 1)

    def test_pieces(self) -> None:
        """Who can take pieces of a message gets them uncopied; what must wait does not keep it."""
        stream, session = self.stream(has_credit=True)
        party: Any = stream._protocol
        seen: list[object] = []
        party.piecesReceived = seen.extend
        stream.attach(party)
        stream.resumeProducing()
        message = bytearray(b"onetwothree")
        pieces = memoryview(message)[:3], memoryview(message)[3:6]
        stream.data_received(pieces)
        self.assertEqual((seen, session.taken, stream.held), (list(pieces), 6, 0))
        self.assertIs(seen[0], pieces[0])
        kept: list[bytes] = []
        party.dataReceived = kept.append
        stream.pauseProducing()
        stream.data_received((memoryview(message)[6:8], memoryview(message)[8:]))
        message[6:] = b"x" * 5
        stream.resumeProducing()
        self.assertEqual((kept, session.taken, stream.held), ([b"three"], 11, 0))

    def test_portions(self) -> None:
        """A reader with a rate gets no more at a time than it asked for, and the same bytes."""
        for has_credit in (True, False):
            stream, session = self.stream(has_credit)
            sizes: list[int] = []
            stream.portion = 1000
            stream.resumeProducing()
            party: Any = stream._protocol

            def take(data: bytes, party: Any = party, sizes: list[int] = sizes) -> None:
                sizes.append(len(data))
                party.transport.pauseProducing()

            party.dataReceived = take
            stream.data_received((b"x" * 2500,))
            self.assertEqual((sizes, session.taken), ([1000], 0))
            stream.resumeProducing()
            self.assertEqual((sizes, session.taken), ([1000, 1000], 1000))
            stream.data_received((b"y",))
            for _ in range(3):
                stream.resumeProducing()
            self.assertEqual((sizes, session.taken), ([1000, 1000, 500, 1], 2501))
            self.assertEqual((stream.held, session.held), (0, 0))
