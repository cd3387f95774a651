"""Tests for L{proxyd.ssh.protection}: what one side seals, the other opens, and nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.ssh.algorithms import CIPHERS, MACS
from proxyd.ssh.protection import PACKET_LIMIT, Opener, Protection

KEYS = tuple(bytes([number]) * 64 for number in range(1, 4))
SUITES = [(cipher, mac) for cipher in CIPHERS for mac in MACS]


def pair(cipher: bytes, mac: bytes) -> tuple[Protection, Protection]:
    """Two sides that have agreed."""
    sides = (Protection(cipher, cipher, mac, mac), Protection(cipher, cipher, mac, mac))
    iv, key, mac_key = KEYS
    for side in sides:
        side.setKeys(iv, key, iv, key, mac_key, mac_key)
    return sides


def payloads(opener: Opener, data: bytes, first: int = 0) -> list[bytes]:
    """What is in a row of packets."""
    found, start = [], 0
    while (taken := opener.take(first + len(found), data, start, len(data))) is not None:
        packet, start = taken
        found.append(packet[opener.skip : len(packet) - packet[opener.skip - 1]])
    assert start == len(data)
    return found


class RoundTripTests(SynchronousTestCase):
    """Every cipher with every MAC."""

    def test_all_suites(self) -> None:
        """What is sealed is opened, packets of all lengths, in any pieces of the payload."""
        for suite in SUITES:
            ours, theirs = pair(*suite)
            wanted = [bytes([size % 256]) * size for size in (1, 2, 10, 11, 12, 13, 255, 32777)]
            sealed = b"".join(
                b"".join(ours.sealer.seal(number, one[:1], memoryview(one)[1:]))
                for number, one in enumerate(wanted)
            )
            self.assertEqual(payloads(theirs.opener, sealed), wanted, suite)

    @settings(max_examples=25, deadline=None)
    @given(st.sampled_from(SUITES), st.lists(st.binary(min_size=1, max_size=300), min_size=1))
    def test_any_cut(self, suite: tuple[bytes, bytes], wanted: list[bytes]) -> None:
        """A packet that is not whole is waited for, wherever it is cut."""
        ours, theirs = pair(*suite)
        for number, one in enumerate(wanted):
            sealed = b"".join(ours.sealer.seal(number, one, b""))
            for cut in range(0, len(sealed), 7):
                self.assertIsNone(theirs.opener.take(number, sealed, 0, cut))
            self.assertEqual(payloads(theirs.opener, sealed, number), [one])

    def test_lengths(self) -> None:
        """A packet is whole blocks with at least four bytes of padding (RFC 4253, section 6)."""
        for cipher, mac in SUITES:
            ours, _ = pair(cipher, mac)
            clear = 4 if b"gcm" in cipher or b"etm" in mac else 0
            tag = 16 if b"gcm" in cipher else 64 if b"512" in mac else 32
            for size in range(1, 70):
                sealed = b"".join(ours.sealer.seal(0, b"x" * size, b""))
                self.assertEqual((len(sealed) - tag - clear) % 16, 0)
                self.assertGreaterEqual(len(sealed) - tag - 4 - 1 - size, 4)

    def test_plain(self) -> None:
        """Before the keys there is no cipher, but the same form in blocks of eight."""
        plain = Protection(b"", b"", b"", b"")
        self.assertFalse(plain.encBlockSize)
        sealed = b"".join(plain.sealer.seal(0, b"\x14", b"hello"))
        self.assertEqual((len(sealed) % 8, payloads(plain.opener, sealed)), (0, [b"\x14hello"]))


class TamperTests(SynchronousTestCase):
    """Whoever changes a packet on its way is found out."""

    def test_any_byte(self) -> None:
        """A change anywhere in a packet is no packet; that it waits for more is no harm."""
        for suite in SUITES:
            for position in range(0, 80, 3):
                ours, theirs = pair(*suite)
                sealed = bytearray(b"".join(ours.sealer.seal(0, b"x" * 40, b"")))
                if position >= len(sealed):
                    continue
                sealed[position] ^= 0x10
                data = bytes(sealed)
                try:
                    taken = theirs.opener.take(0, data, 0, len(data))
                except ProtocolError:
                    continue
                self.assertIsNone(taken, (suite, position))
                self.assertLess(position, 4 if b"ctr" not in suite[0] or b"etm" in suite[1] else 16)

    def test_order(self) -> None:
        """A packet that is missing, or comes twice, is found out."""
        for suite in SUITES:
            ours, theirs = pair(*suite)
            sealed = [b"".join(ours.sealer.seal(number, b"x" * 40, b"")) for number in range(3)]
            payloads(theirs.opener, sealed[0])
            with self.assertRaises(ProtocolError):
                payloads(theirs.opener, sealed[2], 1)

    def test_lengths(self) -> None:
        """A length that no packet has is not waited for."""
        for cipher, mac in SUITES:
            if b"gcm" not in cipher and b"etm" not in mac:
                continue
            for length in (0, 8, 17, PACKET_LIMIT + 16, 0xFFFFFFF0):
                with self.assertRaises(ProtocolError):
                    pair(cipher, mac)[1].opener.take(0, length.to_bytes(4, "big"), 0, 4)
        with self.assertRaises(ProtocolError):
            Protection(b"", b"", b"", b"").opener.take(0, b"\xff" * 8, 0, 8)
