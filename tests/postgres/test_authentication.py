"""Tests for L{proxyd.postgres.authentication}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.connections import AUTHS_NOW
from proxyd.config.times import PasswordTimes
from proxyd.postgres.authentication import ways
from proxyd.postgres.backend_login import Verifier
from proxyd.postgres.directory import Directory
from tests.postgres.tokens import known_tokens


class WaysTests(SynchronousTestCase):
    """The table and the configuration agree."""

    def test_each_word(self) -> None:
        """There is a way for every word that a connection may say, and for names of nothing."""
        table = ways(Verifier(Clock(), PasswordTimes()), known_tokens())
        for word in AUTHS_NOW:
            self.assertIn((word,), table)
        self.assertIn(Directory({}).auth_for(None), table)
        self.assertIn(("backend", "token"), table)

    def test_without_tokens(self) -> None:
        """Where nobody knows tokens, any password is refused where one is asked for."""
        table = ways(Verifier(Clock(), PasswordTimes()))
        self.assertNotIn(("oauth",), table)
        self.assertIs(table["token",], table["backend",])
