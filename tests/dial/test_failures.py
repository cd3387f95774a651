"""Tests for L{proxyd.dial.failures}; what Twisted's own errors come to is in C{test_direct}."""

from __future__ import annotations

import errno

from twisted.trial.unittest import SynchronousTestCase

from proxyd.dial.failures import summed_up, translated
from proxyd.errors import DialError, DialFailure


class FailureTests(SynchronousTestCase):
    """What the system says, in our words."""

    def test_numbers(self) -> None:
        """Each error number, and what is tried stands in the text."""
        for number, failure in (
            (errno.ECONNREFUSED, DialFailure.REFUSED),
            (errno.ENETUNREACH, DialFailure.NETWORK),
            (errno.EHOSTUNREACH, DialFailure.UNREACHABLE),
            (errno.ETIMEDOUT, DialFailure.TIMEOUT),
            (errno.ECONNRESET, DialFailure.LOST),
            (errno.EMFILE, DialFailure.BROKEN),
        ):
            error = translated(OSError(number, ""), "10.0.0.1:1")
            self.assertEqual(error.failure, failure)
            self.assertIn("10.0.0.1:1", str(error))

    def test_most_telling(self) -> None:
        """Of several addresses, the failure that tells most."""
        error = summed_up(
            [DialError(DialFailure.NETWORK, "a"), DialError(DialFailure.REFUSED, "b")]
        )
        self.assertEqual((error.failure, error.detail), (DialFailure.REFUSED, "a; b"))
