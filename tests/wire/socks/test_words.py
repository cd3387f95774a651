"""Tests for L{proxyd.wire.socks.words}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.socks.words import Login, packed_address, read_address


class AddressTests(SynchronousTestCase):
    """Addresses as SOCKS5 writes them."""

    def test_forms(self) -> None:
        """IPv4, IPv6 without its zone, and names."""
        for host, packed in (
            ("10.0.0.1", b"\1\x0a\0\0\1"),
            ("::1", b"\4" + bytes(15) + b"\1"),
            ("fe80::1%lo", b"\4\xfe\x80" + bytes(13) + b"\1"),
            ("ab", b"\3\2ab"),
        ):
            self.assertEqual(packed_address(host, 258), packed + b"\1\2")

    def test_reading(self) -> None:
        """Where it ends, or that it is not all here."""
        data = b"x\3\2ab\1\2rest"
        self.assertEqual(read_address(data, 1), ("ab", 258, 7))
        for size in range(1, 7):
            self.assertIsNone(read_address(data[:size], 1))
        self.assertRaises(ProtocolError, read_address, b"\2\0", 0)
        self.assertRaises(ProtocolError, read_address, b"\3\0", 0)

    def test_login_is_not_shown(self) -> None:
        """Neither user nor password is in a repr."""
        self.assertEqual(repr(Login(b"u", b"p")), "<Login>")
