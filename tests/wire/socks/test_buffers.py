"""Tests for L{proxyd.wire.socks.buffers}; those of the three protocols have it at work."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.socks.buffers import Buffers
from proxyd.wire.socks.words import State


class BuffersTests(SynchronousTestCase):
    """What is there before the first byte, and what is taken is gone."""

    def test_taken_once(self) -> None:
        """Bytes to send are given once; what came stays."""
        buffers = Buffers(login=True)
        self.assertEqual((buffers.state, buffers.command), (State.READING, None))
        buffers._out += b"hello"
        buffers._buffer += b"more"
        self.assertEqual((buffers.data_to_send(), buffers.data_to_send()), (b"hello", b""))
        self.assertEqual(buffers.trailing_data, b"more")
