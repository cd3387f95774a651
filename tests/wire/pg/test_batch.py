"""Tests for L{proxyd.wire.pg.batch}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.pg.batch import bound_batch


class BatchTests(SynchronousTestCase):
    """A statement of our own with values."""

    def test_bytes(self) -> None:
        """Each message stands as the chapter "Message Formats" has it; the values are Bind's."""
        self.assertEqual(
            bound_batch("q", ("'; --", "\udcff")),
            b"P\0\0\0\x09\0q\0\0\0"
            b"B\0\0\0\x1a\0\0\0\0\0\2\0\0\0\5'; --\0\0\0\1\xff\0\0"
            b"E\0\0\0\x09\0\0\0\0\0"
            b"C\0\0\0\6S\0"
            b"S\0\0\0\4",
        )
