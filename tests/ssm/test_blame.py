"""Tests for L{proxyd.ssm.blame}."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from proxyd.errors import DialFailure
from proxyd.net.failover import WayLost
from proxyd.ssm.blame import blamed

REMOTE = {"host": "db", "portNumber": "5432"}


class BlameTests(TestCase):
    """The texts that were seen."""

    def test_target(self) -> None:
        """What is the target's fault is no reason to try another instance."""
        for said, failure in (
            ("lookup db on 10.0.0.2:53: no such host", DialFailure.NAME),
            ("Forwarding to IP address 169.254.169.254 is forbidden.", DialFailure.DENIED),
        ):
            error = blamed("i-1", said, REMOTE)
            self.assertEqual(error.failure, failure)
            self.assertNotIsInstance(error, WayLost)
            self.assertIn("db:5432 by i-1", error.detail)

    def test_way(self) -> None:
        """The rest is."""
        for said, words in (
            ("", "ended there"),
            ("Your session timed out due to inactivity and has been terminated.", "idle"),
            ("----------ERROR-------\nSetting up data channel with id x failed: y", "ssmmessages"),
            ("document process failed unexpectedly: ipc messaging", "could not connect to port 22"),
            ("\n---ERROR---\nHandshake timed out. Please ensure", "did not hear our answer"),
            ("x\ny", "x y"),
        ):
            error = blamed("i-1", said, {"portNumber": "22"})
            self.assertIsInstance(error, WayLost)
            self.assertIn(words, error.detail)
            self.assertNotIn("\n", error.detail)
