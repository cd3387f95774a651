"""Tests for L{proxyd.net.threads}, with real threads on the real reactor."""

from __future__ import annotations

from threading import Event, current_thread
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from proxyd.net.threads import Overloaded, Threads

SECONDS = 30.0


class ThreadsTests(TestCase):
    """Calls are run elsewhere, few at a time, and their results come back."""

    def threads(self, most: int = 2, queue: int = 10) -> Threads:
        """Threads that run until the test ends."""
        there: Any = reactor
        threads = Threads(there, "busy", most, queue)
        threads.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(threads.stopService)
        return threads

    async def test_result(self) -> None:
        """What was returned comes back, and what was raised, in the reactor's thread."""
        threads = self.threads()
        self.assertEqual(await threads.run(divmod, 7, 2), (3, 1))
        with self.assertRaises(ZeroDivisionError):
            await threads.run(divmod, 7, 0)
        self.assertIn("busy-", await threads.run(lambda: current_thread().name))

    async def test_bounded(self) -> None:
        """No more than C{most} at a time, no more than C{queue} in all; the rest waits its turn."""
        threads = self.threads(most=2, queue=3)
        go = Event()
        self.addCleanup(go.set)
        running = [threads.run(go.wait, SECONDS) for _ in range(3)]
        with self.assertRaises(Overloaded):
            await threads.run(go.wait, SECONDS)
        go.set()
        self.assertEqual(await gatherResults(running), [True] * 3)
        self.assertIn(await threads.run(lambda: current_thread().name), ("busy-1", "busy-2"))

    async def test_cancelled_while_waiting(self) -> None:
        """A call that was given up before its turn is never begun."""
        threads = self.threads(most=1)
        go, begun = Event(), []
        self.addCleanup(go.set)
        first = threads.run(go.wait, SECONDS)
        second: Deferred[None] = threads.run(begun.append, "second")
        second.cancel()
        with self.assertRaises(CancelledError):
            await second
        go.set()
        await first
        await threads.run(lambda: None)
        self.assertEqual(begun, [])

    async def test_stopped(self) -> None:
        """After the stop nobody waits any more, and nothing new is taken."""
        threads = self.threads(most=1)
        go = Event()
        self.addCleanup(go.set)
        running = threads.run(go.wait, SECONDS)
        threads.stopService()
        for outcome in (running, threads.run(divmod, 7, 2)):
            with self.assertRaises(Overloaded):
                await outcome
