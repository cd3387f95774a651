"""Tests for L{proxyd.wire.agent.outbox}; tests/wire/agent/test_mux.py has it at work."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.agent.frames import Kind, frame, frames_in
from proxyd.wire.agent.outbox import FIRST, HIGH, LEAST_HIGH, LITTLE, QUANTUM, Outbox
from proxyd.wire.agent.stream import Stream

MIB = 1024 * 1024


class OutboxTests(SynchronousTestCase):
    """Control first, new streams next, then turn by turn."""

    def setUp(self) -> None:
        self.outbox = Outbox()

    def order(self, room: int = 64 * 1024) -> list[int]:
        """The streams in the next message, in order."""
        return [stream for _, _, stream, _ in frames_in(self.outbox.next_message(room))]

    def test_order(self) -> None:
        """A frame of control, then whoever has said little so far, then the others."""
        old, new = Stream(2, MIB, MIB, 0.0), Stream(4, MIB, MIB, 0.0)
        old.sent = QUANTUM
        self.outbox.put(old, b"o" * QUANTUM)
        self.outbox.put(new, b"n")
        self.outbox.say(frame(Kind.PING, 0))
        self.assertEqual(self.order(), [0, 4, 2])

    def test_much_control(self) -> None:
        """More control than a message has room for goes in several, all of it before data."""
        stream, said = Stream(2, MIB, MIB, 0.0), frame(Kind.PING, 0, bytes(8))
        self.outbox.put(stream, b"d" * 10)
        for _ in range(10):
            self.outbox.say(said)
        room = 4 * len(said)
        self.assertEqual([self.order(room), self.order(room)], [[0] * 4, [0] * 4])
        self.assertEqual(self.outbox.control_size, 2 * len(said))
        self.assertEqual(self.order(room), [0, 0, 2])
        self.assertEqual((self.outbox.control_size, self.outbox.pending), (0, False))

    def test_little(self) -> None:
        """Whoever has little to say goes before those who have much, each time."""
        bulk, typing = Stream(2, MIB, MIB, 0.0), Stream(4, MIB, MIB, 0.0)
        bulk.sent = typing.sent = FIRST
        self.outbox.put(bulk, bytes(MIB))
        for _ in range(3):
            self.outbox.put(typing, b"l")
            self.assertEqual(self.order()[0], 4)
        self.assertEqual(self.outbox.next_message(MIB)[-1:], b"\0")

    def test_nobody_is_passed_for_ever(self) -> None:
        """Where those with little to say fill all messages, the others have their turns, too."""
        bulk = Stream(2, MIB, MIB, 0.0)
        bulk.sent = FIRST
        self.outbox.put(bulk, bytes(MIB))
        typing = [Stream(4 + 2 * number, MIB, MIB, 0.0) for number in range(8)]
        for _ in range(3):
            for stream in typing:
                self.outbox.put(stream, bytes(LITTLE))
            self.assertIn(2, self.order(4 * LITTLE))
            self.order(4 * LITTLE)

    def test_credit(self) -> None:
        """Without credit a stream waits, and is back in the row when there is some."""
        stream = Stream(2, MIB, 3, 0.0)
        self.outbox.put(stream, b"abcdef")
        self.assertEqual(self.outbox.next_message(MIB), frame(Kind.DATA, 2, b"abc"))
        self.assertFalse(self.outbox.pending)
        stream.credit = 10
        self.outbox.enlist(stream)
        self.assertEqual(self.outbox.next_message(MIB), frame(Kind.DATA, 2, b"def"))

    def test_drained(self) -> None:
        """A stream that was full is named when it is nearly empty."""
        stream = Stream(2, MIB, MIB, 0.0)
        self.assertFalse(self.outbox.put(stream, b"x" * (HIGH + 1)))
        self.outbox.next_message(HIGH + 1 - HIGH // 4 - QUANTUM)
        self.assertEqual(self.outbox.drained, [])
        self.outbox.next_message(MIB)
        self.assertEqual(self.outbox.drained, [stream])

    def test_share(self) -> None:
        """The more streams there are, the sooner one is full; all are emptied as before."""
        self.outbox.share(4 * MIB, 1)
        self.assertEqual(self.outbox.high, HIGH)
        self.outbox.share(4 * MIB, 32)
        self.assertEqual(self.outbox.high, 128 * 1024)
        stream = Stream(2, MIB, MIB, 0.0)
        self.assertTrue(self.outbox.put(stream, bytes(128 * 1024)))
        self.assertFalse(self.outbox.put(stream, b"x"))
        self.outbox.share(4 * MIB, 20_000)
        self.assertEqual(self.outbox.high, LEAST_HIGH)
        self.outbox.next_message(MIB)
        self.assertEqual(self.outbox.drained, [stream])
