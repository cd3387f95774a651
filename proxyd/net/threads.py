"""
Work that blocks, in a bounded number of threads of its own.

Twisted's own threads are shared by all who block: a few calls that hang there
would hold up everybody else. Each subject that blocks has its own threads, so
that it can only hold up itself.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

_T = TypeVar("_T")


class Overloaded(Exception):
    """So much waits for a thread already that no more is taken."""


class Threads(Service):
    """
    Runs blocking calls, never more than C{most} at a time.

    There is no deadline in here: callers C{addTimeout}. A call that was
    cancelled while it waited for a thread is never begun; one that was begun
    runs to its end unseen.

    @param reactor: where results come back
    @param name: what the threads are called
    @param most: calls at a time
    @param queue: calls that may wait; one more fails with L{Overloaded}
    """

    def __init__(
        self, reactor: IReactorFromThreads, name: str, most: int, queue: int = 1000
    ) -> None:
        self.name = name
        self._reactor = reactor
        self._most = most
        self._room = queue
        self._wanted: SimpleQueue[_Call[Any] | None] = SimpleQueue()
        self._open: dict[_Call[Any], None] = {}
        self._threads = 0

    def stopService(self) -> None:
        """
        Fail what is still waited for, and let the threads go.

        A thread in the midst of a call ends by itself or with the process:
        nothing waits for it.
        """
        self.running = 0
        for call in list(self._open):
            self._settle(call, Failure(Overloaded(f"{self.name}: stopped")))  # type: ignore[no-untyped-call]
        for _ in range(self._threads):
            self._wanted.put(None)
        # A thread that hangs takes its None from the old queue, whatever is asked after a restart.
        self._wanted = SimpleQueue()
        self._threads = 0

    def run(self, work: Callable[..., _T], *arguments: Any) -> Deferred[_T]:
        """
        Call this in a thread.

        @return: fires in the reactor's thread with what it returned, or fails
            with what it raised; L{Overloaded} when the service does not run or
            too much waits. May be cancelled.
        """
        if not self.running:
            return fail(Overloaded(f"{self.name}: not running"))
        if len(self._open) >= self._room:
            return fail(Overloaded(f"{self.name}: {len(self._open)} calls wait already"))
        call = _Call(lambda: work(*arguments))
        call.result = Deferred(lambda _: self._forget(call))
        self._open[call] = None
        if self._threads < min(self._most, len(self._open)):
            self._threads += 1
            # A daemon: a call that hangs must not hold up the end of the process.
            Thread(
                target=self._serve,
                args=(self._wanted,),
                name=f"{self.name}-{self._threads}",
                daemon=True,
            ).start()
        self._wanted.put(call)
        return call.result

    def _forget(self, call: _Call[Any]) -> None:
        call.given_up = True
        self._open.pop(call, None)

    def _serve(self, wanted: SimpleQueue[_Call[Any] | None]) -> None:
        """A thread's life: one call after the other, until it gets None."""
        while (call := wanted.get()) is not None:
            if call.given_up:
                continue
            try:
                outcome = call.work()
            except Exception as error:
                # Without its frames: their locals may hold a secret, and nobody reads them.
                outcome = Failure(error.with_traceback(None))  # type: ignore[no-untyped-call]
            self._reactor.callFromThread(self._settle, call, outcome)

    def _settle(self, call: _Call[Any], outcome: object) -> None:
        if call in self._open:
            self._forget(call)
            call.result.callback(outcome)


class _Call(Generic[_T]):
    """A call somebody waits for."""

    __slots__ = ("given_up", "result", "work")

    result: Deferred[_T]

    def __init__(self, work: Callable[[], _T]) -> None:
        self.work = work
        self.given_up = False
