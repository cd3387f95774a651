"""Cutting bytes into messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.pg.errors import PgProtocolError
from proxyd.wire.pg.framing import MessageReader, whole_messages
from tests.wire.cuts import cut, one_by_one, places

Message = tuple[int, bytes]

messages = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50)), max_size=8)


def encode(kind: int, body: bytes) -> bytes:
    """One message as it stands on the wire."""
    return bytes((kind,)) + (len(body) + 4).to_bytes(4, "big") + body


def read(reader: MessageReader, chunks: list[bytes]) -> list[Message]:
    """Hand in chunks, and take all messages out after each."""
    taken: list[Message] = []
    for chunk in chunks:
        reader.feed(chunk)
        while (message := reader.next_message()) is not None:
            taken.append(message)
    return taken


class MessageReaderTests(SynchronousTestCase):
    """Whole messages come out, one at a time, and never more than asked for."""

    @given(messages, st.binary(max_size=4), places)
    def test_cuts(self, sent: list[Message], rest: bytes, where: list[int]) -> None:
        """However TCP cuts the stream, the messages are the same."""
        data = b"".join(encode(*message) for message in sent) + rest
        for chunks in ([data], cut(data, where), one_by_one(data)):
            reader = MessageReader(50)
            self.assertEqual(read(reader, chunks), sent)
            self.assertEqual(reader.trailing_data, rest)

    def test_one_at_a_time(self) -> None:
        """Who stops after a message finds the rest untouched."""
        reader = MessageReader(10, frozenset(b"p"))
        reader.feed(encode(ord("p"), b"secret\0") + b"Q\xff\xff\xff\xff...")
        self.assertEqual(reader.next_message(), (ord("p"), b"secret\0"))
        self.assertEqual(reader.trailing_data, b"Q\xff\xff\xff\xff...")

    def test_limit(self) -> None:
        """A body of the limit is taken; one byte more is refused at the header."""
        reader = MessageReader(10)
        self.assertEqual(read(reader, [encode(1, bytes(10))]), [(1, bytes(10))])
        reader.feed(encode(1, bytes(11))[:4])
        self.assertIsNone(reader.next_message())
        reader.feed(encode(1, bytes(11))[4:5])
        self.assertRaises(PgProtocolError, reader.next_message)

    def test_bad_lengths(self) -> None:
        """A length that can't be is 08P01."""
        for length in (b"\0\0\0\0", b"\0\0\0\3", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\x7f" * 4):
            with self.subTest(length=length):
                reader = MessageReader(1 << 20)
                reader.feed(b"Q" + length)
                error = self.assertRaises(PgProtocolError, reader.next_message)
                self.assertEqual(str(error), "invalid message length")
                self.assertEqual(error.sqlstate, "08P01")

    def test_unknown_type(self) -> None:
        """A type that is not taken is refused at its first byte, in PostgreSQL's words."""
        reader = MessageReader(10, frozenset(b"p"))
        reader.feed(b"Q")
        error = self.assertRaises(PgProtocolError, reader.next_message)
        self.assertEqual(str(error), "invalid frontend message type 81")

    @given(st.binary(max_size=100), places)
    def test_noise(self, data: bytes, where: list[int]) -> None:
        """Noise never raises anything but ProtocolError, nor gives more than came."""
        reader = MessageReader(20)
        try:
            taken = read(reader, cut(data, where))
        except ProtocolError:
            return
        said = b"".join(encode(*message) for message in taken) + reader.trailing_data
        self.assertEqual(said, data)


class WholeMessagesTests(SynchronousTestCase):
    """All that is whole, in one go."""

    @given(messages, st.integers(0, 60))
    def test_as_one_by_one(self, sent: list[Message], missing: int) -> None:
        """They are those that a reader finds, and what is left is the same."""
        data = b"".join(encode(*message) for message in sent)
        data = data[: max(0, len(data) - missing)]
        reader = MessageReader(50)
        reader.feed(data)
        expected = []
        while (message := reader.next_message()) is not None:
            expected.append(message)
        found, used = whole_messages(data, 50, 256)
        self.assertEqual((found, data[used:]), (expected, reader.trailing_data))

    def test_last(self) -> None:
        """Behind the last one wanted nothing is looked at."""
        data = encode(1, b"a") + encode(2, b"") + b"nonsense"
        self.assertEqual(whole_messages(data, 9, 2), ([(1, b"a"), (2, b"")], 11))

    def test_bad_lengths(self) -> None:
        """A length that can't be is refused, as soon as it is seen."""
        for length in (b"\0\0\0\3", b"\xff\xff\xff\xff", b"\0\0\0\x0f"):
            with self.subTest(length=length):
                self.assertRaises(PgProtocolError, whole_messages, b"Q" + length, 10, 90)

    @given(st.binary(max_size=100))
    def test_noise(self, data: bytes) -> None:
        """Noise never raises anything but ProtocolError, nor gives more than came."""
        try:
            found, used = whole_messages(data, 20, 90)
        except ProtocolError:
            return
        self.assertEqual(b"".join(encode(*message) for message in found), data[:used])
