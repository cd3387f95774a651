"""Tests for L{proxyd.wire.ssm.frames}."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from proxyd.wire.ssm.frames import KEY, framed, whole_messages
from tests.support.ssm_quick import take_whole

sizes = st.sampled_from((1, 125, 126, 127, 1144, 65535))


def plain(message: bytes) -> bytes:
    """A message as the relay sends it, written by hand."""
    if len(message) < 126:
        return b"\x82" + bytes((len(message),)) + message
    return b"\x82\x7e" + len(message).to_bytes(2, "big") + message


class WholeMessagesTests(TestCase):
    """What is taken, and what is left to the library."""

    @given(st.lists(st.binary(max_size=300) | sizes.map(os.urandom), max_size=5), st.data())
    def test_cuts(self, messages: list[bytes], data: st.DataObject) -> None:
        """However TCP cuts the stream, the messages are the same."""
        line = b"".join(map(plain, messages))
        cut = data.draw(st.integers(0, len(line)))
        found, size, wait = whole_messages(line[:cut])
        self.assertTrue(wait)
        more, rest, wait = whole_messages(line[size:])
        self.assertEqual((found + more, size + rest, wait), (messages, len(line), True))

    def test_left_alone(self) -> None:
        """All that is no whole binary message, however it begins: from where it begins."""
        for other in (
            b"\x89\x00",  # a ping
            b"\x88\x02\x03\xe8",  # closing
            b"\x81\x02hi",  # a text
            b"\x02\x02hi",  # the first of some fragments
            b"\x80\x02hi",  # the last
            b"\xc2\x02hi",  # an extension's bit
            b"\x82\x82keyshi",  # masked
            b"\x82\x7e\x00\x05hello",  # not the shortest length
            b"\x82\x7f" + (1 << 16).to_bytes(8, "big"),  # a long one
            b"\x82\x7f" + b"\xff" * 8,  # a giant
        ):
            with self.subTest(other=other):
                self.assertEqual(whole_messages(other), ([], 0, False))
                self.assertEqual(whole_messages(plain(b"x") + other), ([b"x"], 3, False))

    @given(st.binary(max_size=300))
    def test_noise(self, noise: bytes) -> None:
        """Noise raises nothing; what is taken is no more than what is there."""
        found, size, _ = whole_messages(noise)
        self.assertEqual(b"".join(map(plain, found)), noise[:size])


class FramedTests(TestCase):
    """What is sent; that autobahn understands it is shown by all tests of sessions."""

    def test_rfc(self) -> None:
        """RFC 6455, 5.7: a masked Hello (there as a text)."""
        key = bytes.fromhex("37fa213d")
        self.assertEqual(framed([b"Hello"], key).hex(), "828537fa213d7f9f4d5158")

    @given(st.lists(st.binary(max_size=300) | sizes.map(os.urandom), max_size=5))
    def test_both_ways(self, messages: list[bytes]) -> None:
        """Each message is in a frame of its own, behind a mask of its own."""
        keys = os.urandom(KEY * len(messages))
        line = framed(messages, keys)
        self.assertEqual(take_whole(line), (messages, len(line)))

    def test_long(self) -> None:
        """The longest that the protocol takes has its length in eight bytes."""
        message = os.urandom(1 << 16)
        line = framed([message], bytes(KEY))
        self.assertEqual(line, b"\x82\xff" + (1 << 16).to_bytes(8, "big") + bytes(4) + message)
