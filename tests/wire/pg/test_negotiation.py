"""Tests for L{proxyd.wire.pg.negotiation}."""

from __future__ import annotations

from struct import pack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.pg.messages import PROTOCOL_3
from proxyd.wire.pg.negotiation import negotiated_minor


def answer(version: int, options: int = 0, names: bytes = b"") -> bytes:
    """The body of a NegotiateProtocolVersion."""
    return pack("!ii", version, options) + names


class NegotiationTests(SynchronousTestCase):
    """What a server may make of the version that was asked for."""

    def refused(self, body: bytes, asked: int = 2, least: int = 0) -> str:
        """Why."""
        return str(self.assertRaises(ProtocolError, negotiated_minor, body, asked, least))

    def test_lower(self) -> None:
        """Whole or by its minor number alone; what was asked for may be repeated."""
        for body, minor in (
            (answer(PROTOCOL_3), 0),
            (answer(0), 0),
            (answer(PROTOCOL_3 | 2), 2),
            (answer(2), 2),
        ):
            self.assertEqual(negotiated_minor(body, 2, 0), minor)

    def test_refused(self) -> None:
        """Nothing that was not asked for, and nothing below what will do."""
        self.assertIn("was not asked", self.refused(answer(PROTOCOL_3 | 2), asked=0))
        self.assertIn("was not asked", self.refused(answer(PROTOCOL_3 | 3)))
        self.assertIn("was not asked", self.refused(answer(2 << 16)))
        self.assertIn("was not asked", self.refused(answer(-1)))
        self.assertIn("3.1", self.refused(answer(PROTOCOL_3 | 1)))
        self.assertIn("options", self.refused(answer(PROTOCOL_3, 1, b"_pq_.x\0")))
        self.assertIn("options", self.refused(answer(PROTOCOL_3, -1)))
        self.assertIn("min_protocol_version is 3.2", self.refused(answer(PROTOCOL_3), least=2))

    @given(st.binary(max_size=40), st.sampled_from([0, 2]), st.sampled_from([0, 2]))
    def test_noise(self, body: bytes, asked: int, least: int) -> None:
        """Noise never raises anything but ProtocolError, nor gives more than was asked for."""
        try:
            minor = negotiated_minor(body, asked, least)
        except ProtocolError:
            return
        self.assertIn(minor, range(least, asked + 1))
