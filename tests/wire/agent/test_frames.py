"""Tests for L{proxyd.wire.agent.frames}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.agent import frames
from proxyd.wire.agent.frames import Code, Kind


class FrameTests(SynchronousTestCase):
    """Eight bytes of header, then the payload."""

    def test_layout(self) -> None:
        """As it is written down."""
        made = frames.frame(Kind.DATA, 0x01020304, b"ab", 1)
        self.assertEqual(made, bytes([4, 1, 0, 2, 1, 2, 3, 4]) + b"ab")

    @given(
        st.lists(
            st.tuples(st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=99))
        )
    )
    def test_several(self, wanted: list[tuple[Kind, int, bytes]]) -> None:
        """A message holds as many as there are, in their order."""
        message = b"".join(frames.frame(*one) for one in wanted)
        found = [(kind, stream, payload) for kind, _, stream, payload in frames.frames_in(message)]
        self.assertEqual(found, wanted)

    def test_reasons(self) -> None:
        """A code with its text; a later code is INTERNAL, a long text is cut."""
        payload = frames.reason_payload(Code.DENIED, "nö")
        self.assertEqual(frames.parse_reason(payload), (Code.DENIED, "nö"))
        self.assertEqual(frames.parse_reason(b"\xff\xffx"), (Code.INTERNAL, "x"))
        self.assertEqual(len(frames.reason_payload(Code.DENIED, "x" * 5000)), 2 + 1024)
        self.assertRaises(ProtocolError, frames.parse_reason, b"\1")

    def test_goaway(self) -> None:
        """Why, and the last stream."""
        payload = frames.goaway_payload(Code.STOPPING, 8, "bye")
        self.assertEqual(frames.parse_goaway(payload), (Code.STOPPING, 8, "bye"))
