"""Tests for L{proxyd.wire.agent.compression}."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.agent.compression import Compressor, Decompressor


class CompressionTests(SynchronousTestCase):
    """What comes out is what went in; what is of no use is left alone."""

    @given(st.lists(st.binary(min_size=1, max_size=5000), max_size=20))
    def test_round_trip(self, pieces: list[bytes]) -> None:
        """Piece by piece, each whole at once; once given up, it stays so."""
        there, back = Compressor(), Decompressor()
        for piece in pieces:
            packed = there.compress(piece)
            if packed is None:
                self.assertIsNone(there.compress(b"x" * 100))
                return
            self.assertEqual(back.decompress(packed, 5000), piece)

    def test_hopeless(self) -> None:
        """TLS, SSH, archives, and what proves to be noise."""
        for data in (
            b"\x16\x03\x01\x02\0",
            b"SSH-2.0-x",
            b"\x1f\x8b\x08",
            random.Random(1).randbytes(20_000),
        ):
            there = Compressor()
            self.assertIsNone(there.compress(data))
            self.assertFalse(there.useful)

    def test_useful(self) -> None:
        """Text is worth it."""
        there = Compressor()
        packed = there.compress(b"SELECT 1;\n" * 5000)
        assert packed is not None
        self.assertLess(len(packed), 1000)
        self.assertTrue(there.useful)

    def test_limits(self) -> None:
        """More than is allowed, or nonsense, is the peer's fault."""
        packed = Compressor().compress(b"a" * 10_000)
        assert packed is not None
        self.assertRaises(ProtocolError, Decompressor().decompress, packed, 9_999)
        self.assertRaises(ProtocolError, Decompressor().decompress, b"\xff" * 100, 9_999)
