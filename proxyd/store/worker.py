"""
A thread of its own, with a queue that has an end: one thing after the other.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute, fail
from twisted.python.failure import Failure

from proxyd.records import StoreLost

T = TypeVar("T")

WAITING = 1000
"""Calls that may wait; more are refused at once."""


class Worker:
    """
    Does in its thread what the reactor's asks for.

    Answers come in the order of the calls. A call has a deadline: when it is
    over the caller is told L{StoreLost}, and C{interrupt} called, so that the
    thread does not hang for ever.

    Before the reactor runs nobody can wait for a thread: after L{go_ahead} calls
    are done at once, by the caller itself, until L{start}.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        deadline: float,
        interrupt: Callable[[], object] = lambda: None,
        waiting: int = WAITING,
    ) -> None:
        """
        @param reactor: tells the time, and can be called from threads
        @param deadline: seconds that a call may take, its turn in the queue included
        @param interrupt: called in the reactor's thread; makes what the thread
            waits for fail
        """
        self._reactor = reactor
        self._deadline = deadline
        self._interrupt = interrupt
        self._queue: queue.Queue[tuple[Callable[[], Any], Deferred[Any]] | None]
        self._queue = queue.Queue(waiting)
        self._closed = True
        self._ahead = False
        self._thread = threading.Thread(target=self._run, name=f"proxyd-{name}", daemon=True)

    def go_ahead(self) -> None:
        """From now on do what is asked for at once, without the thread."""
        self._closed, self._ahead = False, True

    def start(self) -> None:
        """Begin."""
        self._closed = self._ahead = False
        self._thread.start()

    def call(self, work: Callable[[], T]) -> Deferred[T]:
        """
        Have something done.

        @param work: called in the thread
        @return: its answer or failure; or L{StoreLost}: there is too much to do,
            it took too long, or this was stopped
        """
        if self._closed:
            return fail(StoreLost("the store is closed"))
        if self._ahead:
            return execute(work)
        done: Deferred[T] = Deferred()
        try:
            self._queue.put_nowait((work, done))
        except queue.Full:
            return fail(StoreLost("the store has too much to do"))
        return done.addTimeout(self._deadline, self._reactor, self._too_late)

    def tell(self, work: Callable[[], object]) -> None:
        """In the thread: have the reactor do something, before it hears of later answers."""
        if self._ahead:
            work()
        else:
            self._reactor.callFromThread(work)

    def stop(self) -> Deferred[None]:
        """Finish what was asked for, and end; fires then, or when the deadline is over."""
        ended: Deferred[None] = Deferred()
        if self._closed or self._ahead:
            self._closed = True
            ended.callback(None)
            return ended
        last = self.call(lambda: None)
        self._closed = True
        self._queue_end()
        last.addBoth(lambda _: ended.callback(None))
        return ended

    def _queue_end(self) -> None:
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            pass  # a daemon's thread: it ends with the process

    def _too_late(self, result: object, seconds: float) -> Failure:
        self._interrupt()
        return Failure(StoreLost(f"the store did not answer within {seconds:g} s"))  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            work, done = item
            result: Any
            try:
                result = work()
            except Exception:
                result = Failure()  # type: ignore[no-untyped-call]
            if done.called:
                continue
            self._reactor.callFromThread(_answer, done, result)


def _answer(done: Deferred[Any], result: Any) -> None:
    if not done.called:
        done.callback(result)
