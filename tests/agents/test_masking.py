"""Tests for L{proxyd.agents.masking}."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from proxyd.agents import masking
from proxyd.agents.masking import mask
from tests.support.seeds import printed_seed


class MaskTests(SynchronousTestCase):
    """Each byte is changed by its byte of the key, as RFC 6455 section 5.3 says."""

    def check(self) -> None:
        """All sizes about the borders, at places that are not aligned, and back again."""
        chance = random.Random(printed_seed("tests.agents.test_masking"))
        for size in (0, 1, 2, 3, 4, 5, 255, 256, 257, 258, 1000, 65_535, 262_147):
            for ahead in (0, 1, 6):
                data, key = chance.randbytes(size), chance.randbytes(4)
                there = bytearray(b"x" * ahead + data)
                mask(memoryview(there)[ahead:], key)
                keys = (key * (size // 4 + 1))[:size]
                wanted = bytes(one ^ other for one, other in zip(data, keys, strict=True))
                self.assertEqual(there, b"x" * ahead + wanted)
                body = bytearray(wanted)
                mask(body, key)
                self.assertEqual(body, data)
                body += b"it may grow again"

    def test_fast(self) -> None:
        """By C, where autobahn has it."""
        self.assertIsNotNone(masking._lib)
        self.check()

    def test_slow(self) -> None:
        """Without."""
        self.patch(masking, "_lib", None)
        self.check()
