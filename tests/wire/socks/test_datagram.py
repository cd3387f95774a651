"""Tests for L{proxyd.wire.socks.datagram}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.socks.datagram import Datagram, read_datagram, write_datagram


class DatagramTests(SynchronousTestCase):
    """RFC 1928, section 7."""

    @given(
        st.ip_addresses().map(str) | st.text("abc.", min_size=1, max_size=255),
        st.integers(0, 65535),
        st.binary(max_size=99),
    )
    def test_there_and_back(self, host: str, port: int, payload: bytes) -> None:
        """What was written is read."""
        datagram = Datagram(host, port, payload)
        self.assertEqual(read_datagram(write_datagram(datagram)), datagram)

    @given(st.binary(max_size=300))
    def test_noise(self, data: bytes) -> None:
        """Noise never raises anything but ProtocolError."""
        try:
            read_datagram(data)
        except ProtocolError:
            return

    def test_refused(self) -> None:
        """Fragments, reserved bytes, ends within."""
        good = write_datagram(Datagram("10.0.0.1", 53, b"x"))
        for bad in (b"", good[:3], b"\1" + good[1:], good[:2] + b"\1" + good[3:], good[:9]):
            self.assertRaises(ProtocolError, read_datagram, bad)
