"""
Work that nobody waits for.

Whoever starts such work still owns it: keep the Deferred, and cancel it when
you stop.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure


def spawn(work: Coroutine[Deferred[Any], Any, object], log: Logger, doing: str) -> Deferred[None]:
    """
    Run a coroutine on its own; its failure is logged, once.

    @param work: the coroutine; it begins at once and runs to its first await
    @param log: where a failure is told
    @param doing: what the work is, for the log: "closing a pool"
    @return: fires with None when the work has ended, well or badly, and never
        fails; cancelling it cancels the work, which is not logged
    """

    def tell(failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            log.failure("{doing} failed", failure, LogLevel.error, doing=doing)

    def forget(_: object) -> None:
        return None

    return Deferred.fromCoroutine(work).addCallbacks(forget, tell)
