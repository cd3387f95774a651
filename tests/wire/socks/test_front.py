"""Tests for L{proxyd.wire.socks.front}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.socks.front import handshake_for
from proxyd.wire.socks.http import HttpConnect
from proxyd.wire.socks.socks4 import Socks4
from proxyd.wire.socks.socks5 import Socks5


class FrontTests(SynchronousTestCase):
    """The protocol is seen by its first byte."""

    def test_first_byte(self) -> None:
        """SOCKS5, SOCKS4, HTTP, and nothing else."""
        kinds = {5: Socks5, 4: Socks4, ord("C"): HttpConnect, ord("G"): HttpConnect}
        for first in range(256):
            expected = kinds.get(first, HttpConnect if 0x41 <= first <= 0x5A else None)
            if expected is None:
                self.assertRaises(ProtocolError, handshake_for, first, False)
            else:
                self.assertIsInstance(handshake_for(first, False), expected)
