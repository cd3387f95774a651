"""
Work that nobody waits for.

Whoever starts such work still owns it: keep the Deferred, and cancel it when
you stop.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
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

    return begin(work, log, doing) or succeed(None)


def begin(
    work: Coroutine[Deferred[Any], Any, object], log: Logger, doing: str
) -> Deferred[None] | None:
    """The same; None: the work has ended at once, as most does."""

    try:
        waited_for = work.send(None)
    except StopIteration:
        return None
    except CancelledError:
        return None
    except Exception:
        _tell(Failure(), log, doing)  # type: ignore[no-untyped-call]
        return None
    # Only what does not end at once costs a Deferred of its own.
    return Deferred.fromCoroutine(_rest(work, waited_for)).addCallbacks(
        lambda _: None, _tell, errbackArgs=(log, doing)
    )


def _tell(failure: Failure, log: Logger, doing: str) -> None:
    """Log a failure, once; not that the work was cancelled."""
    if not isinstance(failure.value, CancelledError):
        log.failure("{doing} failed", failure, LogLevel.error, doing=doing)


def _rest(
    work: Coroutine[Deferred[Any], Any, object], waited_for: Deferred[Any]
) -> Generator[Deferred[Any], Any, None]:
    """What is left of a coroutine that waits for this by now."""
    try:
        while True:
            try:
                result = yield waited_for
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:
                waited_for = work.throw(error)
            else:
                waited_for = work.send(result)
    except StopIteration:
        return
