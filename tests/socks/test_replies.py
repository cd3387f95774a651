"""Tests for L{proxyd.socks.replies}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import DialError, DialFailure
from proxyd.socks.replies import REPLY_FOR, Refused, reply_for
from proxyd.wire.socks.words import Refusal


class ReplyTests(SynchronousTestCase):
    """What a client is told."""

    def test_all(self) -> None:
        """Every way to fail has its code."""
        self.assertEqual(set(REPLY_FOR), set(DialFailure))

    def test_codes(self) -> None:
        """Those that clients look at."""
        for failure, code in (
            (DialFailure.REFUSED, 5),
            (DialFailure.UNREACHABLE, 4),
            (DialFailure.NETWORK, 3),
            (DialFailure.DENIED, 2),
            (DialFailure.NAME, 4),
            (DialFailure.TIMEOUT, 4),
        ):
            self.assertEqual(reply_for(DialError(failure, "x")), code)
        self.assertEqual(reply_for(Refused(Refusal.COMMAND, "x")), 7)
        self.assertEqual(reply_for(ValueError("a bug")), 1)
