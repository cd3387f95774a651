"""Tests for L{proxyd.wire.agent.events}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.agent.events import Data


class DataTests(SynchronousTestCase):
    """Bytes that came for a stream, in pieces."""

    def test_whole(self) -> None:
        """All of them together are a copy: what becomes of the message is no matter."""
        message = bytearray(b"onetwo")
        data = Data(1, (memoryview(message)[:3], b"-", memoryview(message)[3:])).data
        message[:] = b"xxxxxx"
        self.assertEqual(data, b"one-two")
