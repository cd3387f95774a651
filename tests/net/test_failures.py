"""Tests for L{proxyd.net.failures}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.times import PasswordTimes
from proxyd.net import failures
from proxyd.net.failures import FREE_FAILURES, Failures

ANN = ("192.0.2.9", "ann")


class FailuresTests(SynchronousTestCase):
    """Who gives wrong passwords waits longer and longer."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.failures = Failures(self.clock, PasswordTimes())

    def fail_often(self, times: int = FREE_FAILURES) -> None:
        """Ann gives so many wrong passwords."""
        for _ in range(times):
            self.failures.failed(ANN)

    def test_longer_and_longer(self) -> None:
        """A few cost nothing; then each costs twice the one before, up to the longest."""
        for _ in range(FREE_FAILURES):
            self.assertIsNone(self.failures.pause(ANN))
            self.failures.failed(ANN)
        for seconds in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0):
            pause = self.failures.pause(ANN)
            assert pause is not None
            self.clock.advance(seconds - 0.01)
            self.assertNoResult(pause)
            self.clock.advance(0.02)
            self.successResultOf(pause)
            self.failures.failed(ANN)

    def test_others(self) -> None:
        """Another user from there, and the same user from elsewhere, don't wait for it."""
        self.fail_often()
        self.assertIsNone(self.failures.pause((ANN[0], "bob")))
        self.assertIsNone(self.failures.pause(("192.0.2.10", ANN[1])))

    def test_forgiven(self) -> None:
        """Whoever logs in is forgiven, and who has not failed for a minute."""
        self.fail_often()
        self.failures.succeeded(ANN)
        self.assertIsNone(self.failures.pause(ANN))
        self.fail_often()
        self.clock.advance(60.1)
        self.assertIsNone(self.failures.pause(ANN))
        self.assertEqual(len(self.failures), 0)

    def test_given_up(self) -> None:
        """Who does not wait for the end leaves no timer behind."""
        self.fail_often()
        pause = self.failures.pause(ANN)
        assert pause is not None
        pause.addErrback(lambda _: None)
        pause.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """Those who fail under ever new names don't fill the memory."""
        self.patch(failures, "REMEMBERED", 10)
        for number in range(30):
            self.failures.failed(("192.0.2.9", f"user{number}"))
        self.assertEqual(len(self.failures), 10)
        self.failures.forget()
        self.assertEqual(len(self.failures), 0)
