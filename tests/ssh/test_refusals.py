"""Tests for L{proxyd.ssh.refusals}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import DialFailure
from proxyd.net.failover import WayLost
from proxyd.ssh.refusals import NoRoom, open_failure
from proxyd.target import Target

BOX = Target("box.example", 5432)


class RefusalTests(SynchronousTestCase):
    """Reason codes (RFC 4254, section 5.1), and what OpenSSH says beside them."""

    def test_failures(self) -> None:
        """Every way to fail, in our words (texts of OpenSSH's channels.c)."""
        for code, said, failure in (
            (1, "open failed", DialFailure.DENIED),
            (2, "Connection refused", DialFailure.REFUSED),
            (2, "Connection timed out", DialFailure.TIMEOUT),
            (2, "No route to host", DialFailure.UNREACHABLE),
            (2, "Network is unreachable", DialFailure.NETWORK),
            (2, "Name or service not known", DialFailure.NAME),
            (2, "Temporary failure in name resolution", DialFailure.NAME),
            (2, "No address associated with hostname", DialFailure.NAME),
            (2, "", DialFailure.UNREACHABLE),
            (3, "unknown channel type", DialFailure.DENIED),
            (4, "resource shortage", DialFailure.BROKEN),
        ):
            problem = open_failure(BOX, code, said)
            self.assertIs(problem.failure, failure, said)
            self.assertIn("box.example:5432", problem.detail)
            self.assertEqual(isinstance(problem, WayLost), code == 4)
        self.assertIsInstance(open_failure(BOX, 4, ""), NoRoom)
