"""Tests for L{proxyd.net.tasks}."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.tasks import begin, spawn

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

    def test_at_once(self) -> None:
        """Work that waits for nothing is over, well or badly, when it was begun."""
        with capturedLogs() as events:
            self.assertIsNone(self.successResultOf(spawn(waiting(succeed(5)), log, "counting")))
            self.assertEqual(events, [])
            done = spawn(waiting(fail(ValueError("no"))), log, "closing a pool")
        self.assertIsNone(self.successResultOf(done))
        self.assertIsNone(begin(waiting(succeed(5)), log, "counting"))
        self.assertEqual([formatEvent(event) for event in events], ["closing a pool failed"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_waits_again(self) -> None:
        """Work may wait any number of times, and catch what fails."""
        things: list[Deferred[int]] = [Deferred() for _ in range(4)]
        had: list[object] = []

        async def work() -> None:
            for thing in things:
                try:
                    had.append(await thing)
                except ValueError:
                    had.append("failed")

        done = spawn(work(), log, "collecting")
        for number in (0, 2, 1, 3):
            if number == 1:
                things[1].errback(ValueError("no"))
            else:
                things[number].callback(number)
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(had, [0, "failed", 2, 3])
