"""Tests for L{proxyd.wire.ssm.smux}."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.ssm.smux import NOP, Smux
from tests.wire.ssm.sources import vectors


def frame(command: int, number: int, data: bytes = b"", version: int = 1) -> bytes:
    """A frame as an agent may send it."""
    return struct.pack("<BBHI", version, command, len(data), number) + data


class SmuxTests(TestCase):
    """The client's end."""

    def test_vectors(self) -> None:
        """V13 and V14: what the real plugin's library writes."""
        smux = Smux()
        three, opened = smux.open()
        written = opened + smux.data(three, b"hello") + smux.close(three)
        five, opened = smux.open()
        large = smux.data(five, bytes(40000))
        written += opened + large
        self.assertEqual((three, five, len(written)), (3, 5, 40053))
        self.assertTrue(written.hex().startswith(vectors()["V13"]["data"].rstrip(".")))
        self.assertEqual(large[32776:32784].hex(), "0102401c05000000")
        self.assertEqual(NOP.hex(), vectors()["V14"]["data"])

    def test_cuts(self) -> None:
        """However the bytes are cut, each stream gets its own, and its end."""
        whole = b"".join(
            (
                frame(2, 3, b"abc"),
                frame(3, 0),
                frame(2, 5, b""),
                frame(2, 5, bytes(70)),
                frame(2, 3, b"def"),
                frame(1, 3),
                frame(2, 9, b"nobody's"),
                frame(1, 9),
            )
        )
        for size in (*range(1, 20), len(whole)):
            smux = Smux()
            smux.open(), smux.open()
            found: dict[int, list[bytes | None]] = {3: [], 5: []}
            for start in range(0, len(whole), size):
                for number, data in smux.receive(whole[start : start + size]):
                    found[number].append(data)
            self.assertIsNone(found[3].pop())
            self.assertEqual(b"".join(x or b"" for x in found[3]), b"abcdef")
            self.assertEqual(b"".join(x or b"" for x in found[5]), bytes(70))

    def test_after_our_end(self) -> None:
        """What still comes for a stream that we closed goes nowhere."""
        smux = Smux()
        number, _ = smux.open()
        smux.close(number)
        self.assertEqual(smux.receive(frame(2, number, b"late") + frame(1, number)), [])
        for call in (lambda: smux.close(number), lambda: smux.data(number, b"x")):
            with self.assertRaises(LocalProtocolError):
                call()
        self.assertEqual(smux.streams, 0)

    def test_refused(self) -> None:
        """Another version, a stream the agent opens, a window of version 2, a long FIN."""
        for data in (
            frame(2, 3, b"x", version=2),
            frame(0, 4),
            frame(4, 3, bytes(8)),
            frame(1, 3, b"x"),
            frame(3, 0, b"x"),
            b"SSH-2.0-OpenSSH",
        ):
            smux = Smux()
            smux.open()
            with self.assertRaises(ProtocolError):
                smux.receive(data)

    @given(st.binary(max_size=300))
    def test_noise(self, noise: bytes) -> None:
        """Noise never raises anything but ProtocolError."""
        smux = Smux()
        smux.open()
        try:
            smux.receive(noise)
        except ProtocolError:
            pass
