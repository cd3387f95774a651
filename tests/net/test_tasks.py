"""Tests for L{proxyd.net.tasks}."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.tasks import spawn

log = Logger()


async def waiting(thing: Deferred[int]) -> int:
    """Work that waits for something."""
    return await thing


class SpawnTests(SynchronousTestCase):
    """Work that nobody waits for runs by itself, and its failure is told once."""

    def test_success(self) -> None:
        """It begins at once; when it is done the Deferred fires with nothing, and no log."""
        thing: Deferred[int] = Deferred()
        with capturedLogs() as events:
            done = spawn(waiting(thing), log, "counting")
            self.assertNoResult(done)
            thing.callback(5)
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(events, [])

    def test_failure(self) -> None:
        """A failure is logged once, with what was being done; the Deferred does not fail."""
        thing: Deferred[int] = Deferred()
        with capturedLogs() as events:
            done = spawn(waiting(thing), log, "closing a pool")
            thing.errback(ValueError("no"))
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual([formatEvent(event) for event in events], ["closing a pool failed"])
        self.assertIs(events[0]["log_level"], LogLevel.error)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_cancel(self) -> None:
        """Cancelling ends the work and what it waits for, and is not logged."""
        cancelled: list[bool] = []
        thing: Deferred[int] = Deferred(lambda _: cancelled.append(True))
        with capturedLogs() as events:
            done = spawn(waiting(thing), log, "waiting")
            done.cancel()
        self.assertEqual(cancelled, [True])
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(events, [])
