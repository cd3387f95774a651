"""
Tests of L{proxyd.store.worker}.
"""

from __future__ import annotations

import threading

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import TestCase

from proxyd.records import StoreLost
from proxyd.store.worker import Worker


class WorkerTests(TestCase):
    """A thread with a queue."""

    def worker(self, deadline: float = 60.0, waiting: int = 10) -> Worker:
        """One that is stopped at the end."""
        worker = Worker(reactor, "test", deadline, self.interrupted.set, waiting)
        worker.start()
        self.addCleanup(worker.stop)
        return worker

    def setUp(self) -> None:
        self.interrupted = threading.Event()

    async def test_in_order(self) -> None:
        """Calls are done in order, in one thread that is not the reactor's."""
        worker = self.worker()
        done: list[int] = []
        calls = [worker.call(lambda number=n: done.append(number)) for n in range(9)]  # type: ignore[misc]
        for call in calls:
            await call
        self.assertEqual(done, list(range(9)))
        thread = await worker.call(threading.current_thread)
        self.assertIsNot(thread, threading.current_thread())

    async def test_failure(self) -> None:
        """What goes wrong reaches the caller, and the next call is done."""
        worker = self.worker()
        await self.assertFailure(worker.call(lambda: 1 // 0), ZeroDivisionError)
        self.assertEqual(await worker.call(lambda: 7), 7)

    async def test_full(self) -> None:
        """More than may wait are refused at once."""
        worker = self.worker(waiting=2)
        began, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def slow() -> None:
            began.set()
            go_on.wait(60)

        first = worker.call(slow)
        began.wait(60)
        waiting = [worker.call(lambda: 1) for _ in range(2)]
        await self.assertFailure(worker.call(lambda: 1), StoreLost)
        go_on.set()
        await first
        self.assertEqual([await one for one in waiting], [1, 1])

    async def test_deadline(self) -> None:
        """A call that hangs is given up, and its thread woken."""
        worker = self.worker(deadline=0.05)
        call = worker.call(lambda: self.interrupted.wait(60))
        await self.assertFailure(call, StoreLost)
        self.assertTrue(self.interrupted.is_set())

    async def test_cancel(self) -> None:
        """Who gives up the wait is told so, and the work is done."""
        worker = self.worker()
        done: list[int] = []
        call = worker.call(lambda: done.append(1))
        call.cancel()
        await self.assertFailure(call, CancelledError)
        await worker.call(lambda: None)
        self.assertEqual(done, [1])

    async def test_stop(self) -> None:
        """What was asked for is finished; nothing more is taken; its thread is gone."""
        worker = self.worker()
        done: list[int] = []
        worker.call(lambda: done.append(1))
        await worker.stop()
        self.assertEqual(done, [1])
        await self.assertFailure(worker.call(lambda: None), StoreLost)
        worker._thread.join(60)
        self.assertFalse(worker._thread.is_alive())
        await worker.stop()

    async def test_never_started(self) -> None:
        """One that was not started takes nothing."""
        worker = Worker(reactor, "test", 1.0)
        await self.assertFailure(worker.call(lambda: None), StoreLost)
        await worker.stop()
