"""An AWS of memory for a test, and an account at it."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.trial.unittest import TestCase

from proxyd.dial.aws.account import AwsAccount, AwsSession
from proxyd.net.threads import Threads
from tests.support.fake_aws import VARIABLES, FakeAws

reactor: Any = _reactor

SECONDS = 30.0
"""Longer than anything here may take."""


class AwsTestCase(TestCase):
    """
    @ivar aws: the services
    @ivar account: of the container that the test seems to run in
    """

    def setUp(self) -> None:
        self.aws = FakeAws()
        self.addCleanup(self.aws.stop)
        self.threads = Threads(reactor, "aws", 4)
        self.threads.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(self.threads.stopService)
        self.set_variables(self.aws.variables())
        self.account = self.account_with()

    def set_variables(self, variables: dict[str, str]) -> None:
        """These are AWS's variables until the test ends, and no others."""
        for name in VARIABLES:
            before = os.environ.pop(name, None)
            if before is not None:
                self.addCleanup(os.environ.__setitem__, name, before)
        for name, value in variables.items():
            os.environ[name] = value
            self.addCleanup(os.environ.pop, name, None)

    def account_with(self, **settings: Any) -> AwsAccount:
        """An account, for L{AwsSession}'s settings."""
        session = AwsSession(call_time=settings.pop("call_time", SECONDS), **settings)
        return AwsAccount(self.threads, reactor, session)
