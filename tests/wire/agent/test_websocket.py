"""Tests for L{proxyd.wire.agent.websocket}."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.agent.websocket import Frames, binary_head

LIMIT = 70_000
KEY = b"\1\2\3\4"
PING = b"\x89\x01!"


def unmask(data: bytearray, key: bytes) -> None:
    """As RFC 6455 section 5.3 has it."""
    for at in range(len(data)):
        data[at] ^= key[at % 4]


def masked(data: bytes, key: bytes = KEY) -> bytes:
    """The same, of bytes."""
    there = bytearray(data)
    unmask(there, key)
    return bytes(there)


def taken(frames: Frames, *chunks: bytes) -> tuple[list[bytes], bytes]:
    """The messages that were taken, and all that was left to somebody else."""
    messages, others = [], b""
    for chunk in chunks:
        for whole, piece in frames.receive_data(chunk):
            if whole:
                messages.append(bytes(piece))
            else:
                others += piece
    return messages, others


class FramesTests(SynchronousTestCase):
    """Whole binary messages are taken, all else is told apart."""

    def test_sizes(self) -> None:
        """Each length of a head, at its borders, of clients and of servers."""
        for size in (0, 1, 125, 126, 65_535, 65_536, LIMIT):
            data = bytes(range(256)) * (size // 256) + bytes(size % 256)
            server = taken(Frames(False, LIMIT, unmask), binary_head(size) + data)
            self.assertEqual(server, ([data], b""), size)
            sent = binary_head(size, KEY) + masked(data)
            self.assertEqual(taken(Frames(True, LIMIT, unmask), sent), ([data], b""), size)

    def test_left_alone(self) -> None:
        """What is no whole binary message by the rules goes on as it came."""
        for frame in (
            PING,
            b"\x88\x00",
            b"\x81\x02hi",
            b"\x02\x01a\x80\x01b",
            b"\xc2\x01a",
            b"\x82\x81" + KEY + b"a",  # masked, by a server
            b"\x82\x7e\x00\x01a",  # a longer head than it takes
            b"\x82\x7f" + bytes(7) + b"\x01a",
            binary_head(LIMIT + 1) + bytes(LIMIT + 1),
        ):
            with self.subTest(frame=frame[:20]):
                frames = Frames(False, LIMIT, unmask)
                self.assertEqual(taken(frames, frame), ([], frame))
                self.assertEqual(taken(frames, b"\x82\x01z"), ([b"z"], b""))

    def test_within_a_message(self) -> None:
        """Between two fragments a whole message breaks the rules: that is for others to say."""
        wrong = b"\x02\x01a" + PING + b"\x82\x01b"
        frames = Frames(False, LIMIT, unmask)
        self.assertEqual(taken(frames, wrong), ([], wrong))
        self.assertEqual(taken(frames, b"\x82\x01c\x00\x00\x80\x00"), ([b"c"], b"\x00\x00\x80\x00"))

    def test_longest(self) -> None:
        """A length that nobody ever sends is waited for, and nothing is kept meanwhile."""
        frames = Frames(False, LIMIT, unmask)
        endless = b"\x82\x7f" + b"\xff" * 8
        self.assertEqual(taken(frames, endless, b"abc"), ([], endless + b"abc"))

    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=300).map(lambda data: (True, data)),
                st.sampled_from((PING, b"\x81\x03abc", b"\x02\x01x\x80\x00")).map(
                    lambda frame: (False, frame)
                ),
            ),
            max_size=12,
        ),
        st.lists(st.integers(0, 3000), max_size=30),
        st.booleans(),
    )
    def test_cuts(self, wanted: list[tuple[bool, bytes]], cuts: list[int], client: bool) -> None:
        """However TCP cuts the stream, the messages are the same."""
        stream = b""
        for ours, data in wanted:
            key = KEY if client else b""
            body = masked(data) if client else data
            stream += binary_head(len(data), key) + body if ours else data
        places = [0, *sorted({min(cut, len(stream)) for cut in cuts}), len(stream)]
        chunks = [stream[a:b] for a, b in pairwise(places)]
        messages, others = taken(Frames(client, LIMIT, unmask), *chunks)
        self.assertEqual(messages, [data for ours, data in wanted if ours])
        self.assertEqual(others, b"".join(data for ours, data in wanted if not ours))
