"""
The store that several nodes share: a PostgreSQL database, in its schema C{proxyd}.

Every change bumps one revision, whose row lock makes writers take turns, so
that revisions become visible in their order. A node reads what is new since
the revision it knows: when a notification wakes it, and by itself several
times a second, since a connection that listens can be lost without a sound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.errors import StartError
from proxyd.interfaces import IStore
from proxyd.records import Change, Invalid, Kind, NodeRecord, StoreLost
from proxyd.store import statements as sql
from proxyd.store.listener import Listening
from proxyd.store.rows import Row, Rows
from proxyd.store.schema import steps
from proxyd.store.served import ServedStore, tell_all
from proxyd.store.wire import Wire
from proxyd.store.worker import Worker

T = TypeVar("T")

_log = Logger()


@implementer(IStore)
class PostgresStore(ServedStore):
    """See L{IStore}."""

    shared = True

    def __init__(self, reactor: Any, dsn: str, deadline: float, poll: float) -> None:
        """
        @param dsn: a connection string of libpq's, its password included
        @param deadline: seconds that a call may take
        @param poll: seconds between two looks for what is new
        """
        super().__init__()
        self._reactor = reactor
        self._wire = Wire(dsn, deadline)
        self._worker = Worker(reactor, "store", deadline, self._wire.interrupt)
        self._listening = Listening(reactor, Wire(dsn, deadline), self._woken)
        self._polling = LoopingCall(self._poll)
        self._polling.clock = reactor
        self._every = poll
        self._seen = -1
        self._heard_by = 0
        self._heard_at: float | None = None
        self._asking = False
        self._again = False
        self._silent = False
        # What was missed is to be told as a whole; whether those who watch have read it by now.
        self._missed = False
        self._behind = False

    def open_now(self) -> Deferred[None]:
        """See L{SqliteStore<proxyd.store.sqlite.SqliteStore>}."""
        self._worker.go_ahead()
        return self._opened(self._worker.call(self._open))

    def start(self) -> None:
        """See L{SqliteStore<proxyd.store.sqlite.SqliteStore>}."""
        self._worker.start()
        self._listening.start()
        self._polling.start(self._every, now=False).addErrback(
            lambda failure: _log.failure("the look for changes stopped", failure)
        )

    def open(self) -> Deferred[None]:
        """See L{IStore}."""
        self.start()
        return self._opened(self._worker.call(self._open))

    def _opened(self, opening: Deferred[None]) -> Deferred[None]:
        def heard(_: None) -> None:
            self._heard_at = self._reactor.seconds()

        return opening.addCallback(heard)

    def close(self) -> Deferred[None]:
        """See L{IStore}."""
        if self._polling.running:
            self._polling.stop()
        self._listening.stop()
        closing = self._worker.call(self._wire.close)
        ended = self._worker.stop()
        return closing.addErrback(lambda _: None).addCallback(lambda _: ended)

    def silent_for(self) -> float:
        """See L{IStore}."""
        if self._heard_at is None:
            return float("inf")
        return float(self._reactor.seconds() - self._heard_at)

    def read(self, work: Callable[[Rows], T]) -> Deferred[T]:
        """See L{ServedStore}."""
        return self._worker.call(lambda: self._reading(work))

    def write(self, work: Callable[[Rows], T]) -> Deferred[T]:
        """See L{ServedStore}."""
        return self._worker.call(lambda: self._writing(work))

    def remove_expired(self, now: int) -> Deferred[int]:
        """See L{IStore}; a node whose clock is ahead takes nothing from the others."""
        return self.write(lambda rows: rows.remove_expired(min(now, self._now())))

    def join(self, name: str, address: str) -> Deferred[NodeRecord]:
        """See L{IStore}."""

        def work(rows: Rows) -> NodeRecord:
            self._run(sql.LOCK_NODES, {})
            return rows.join(name, address, self._now())

        return self.read(work)

    def leave(self, name: str) -> Deferred[None]:
        """See L{IStore}."""
        return self.read(lambda rows: rows.leave(name))

    def nodes(self) -> Deferred[list[NodeRecord]]:
        """See L{IStore}."""
        return self.read(lambda rows: rows.nodes(self._now()))

    # What is new

    def _woken(self) -> None:
        """The listener heard of a change."""
        if self._asking:
            self._again = True
        else:
            self._poll()

    def _poll(self) -> None:
        """Read what is new; one look at a time."""
        if self._asking:
            return
        self._asking, self._again = True, False
        began = self._reactor.seconds()
        looking = self._worker.call(self._look)
        looking.addCallbacks(lambda _: self._heard(began), lambda failure: self._unheard(failure))
        looking.addErrback(lambda failure: _log.failure("a change was not understood", failure))

    def _heard(self, began: float) -> None:
        self._asking = False
        if not self._behind:
            self._heard_at = began
        if self._silent:
            self._silent = False
            _log.info("the state store answers again")
        if self._again and self._polling.running:
            self._poll()

    def _unheard(self, failure: Any) -> None:
        self._asking = False
        if not self._silent:
            self._silent = True
            _log.error("the state store does not answer: {reason}", reason=str(failure.value))

    def _look(self) -> None:
        """In the thread: read what is new since L{_seen}, and tell of it."""

        missed, self._missed = self._missed, False

        def work(rows: Rows) -> tuple[int, list[Change]]:
            [[revision, pruned_to]] = self._run(sql.REVISION, {})
            # By a new connection it may be another server: a standby that took over may not have
            # the last changes, and count others by their numbers.
            other = self._wire.made != self._heard_by
            if missed or other or not pruned_to <= self._seen <= revision:
                return revision, [Change(Kind.ALL, 0, None)]
            if revision == self._seen:
                return revision, []
            found = self._run(sql.CHANGES, {"seen": self._seen})
            changed = dict.fromkeys((kind, issuer, key) for _, kind, issuer, key in found)
            last = max([self._seen, *(row[0] for row in found)])
            return last, [rows.current(Kind(kind), issuer, key) for kind, issuer, key in changed]

        try:
            # Seen is what was read to its end: where it breaks off, it is read once more.
            self._seen, changes = self._reading(work)
            self._heard_by = self._wire.made
        except BaseException:
            self._missed = self._missed or missed
            raise
        if changes:
            self._worker.tell(lambda: self.tell(changes))

    def tell(self, changes: Sequence[Change]) -> None:
        """Tell of changes; whoever has to read all again has it told until that was done."""
        for change in changes:
            if change.kind is not Kind.ALL:
                tell_all(self._watching, change)
                continue
            self._behind = True
            reading = [maybeDeferred(told, change) for told in self._watching]
            gatherResults(reading, consumeErrors=True).addCallbacks(
                self._caught_up, self._still_behind
            )

    def _caught_up(self, _: object) -> None:
        self._behind = False
        self._heard_at = self._reactor.seconds()

    def _still_behind(self, failure: Failure) -> None:
        """Until all is read again nobody may rely on what is known of revocations."""
        reason = str(getattr(failure.value, "subFailure", failure).value)
        _log.warn("what was missed could not be read, and is again: {reason}", reason=reason)
        self._missed = True

    # In the thread

    def _run(self, statement: str, values: Mapping[str, object]) -> list[Row]:
        return self._wire.run(sql.for_psycopg(statement), values)

    def _now(self) -> int:
        """The store's own clock: nodes need not agree on theirs."""
        [[now]] = self._run(sql.NOW, {})
        return int(now)

    def _reading(self, work: Callable[[Rows], T]) -> T:
        with _in_our_words():
            try:
                return self._once(work)
            except psycopg.OperationalError:
                if self._wire.connected:
                    raise
            # The connection was lost; asking again does no harm.
            return self._once(work)

    def _once(self, work: Callable[[Rows], T]) -> T:
        with self._wire.transaction():
            return work(Rows(self._run))

    def _writing(self, work: Callable[[Rows], T]) -> T:
        rows = Rows(self._run)
        with _in_our_words(), self._wire.transaction():
            [[revision]] = self._run(sql.NEXT_REVISION, {})
            result = work(rows)
            for change in rows.changes:
                self._run(sql.NOTE_CHANGE, _noted(revision, change))
            if rows.changes:
                self._run(sql.PRUNE, {})
                self._run(sql.NOTIFY, {})
        if self._seen == revision - 1:
            self._seen = revision
        if rows.changes:
            self._worker.tell(lambda: self.tell(rows.changes))
        return result

    def _open(self) -> None:
        try:
            with self._wire.transaction():
                self._bring_up()
            with self._wire.transaction():
                [[self._seen, _]] = self._run(sql.REVISION, {})
            self._heard_by = self._wire.made
        except StartError:
            self._wire.close()
            raise
        except (psycopg.Error, OSError) as error:
            self._wire.close()
            raise StartError(f"state: {self._wire.place}: {_first_line(error)}") from None

    def _bring_up(self) -> None:
        """Go the steps that are missing, all of them or none."""
        self._run(sql.MIGRATION_LOCK, {})
        [[there]] = self._run(sql.PLACE, {})
        if not there:
            for statement in (sql.MAKE_PLACE, sql.MAKE_VERSION, sql.FIRST_VERSION):
                self._run(statement, {})
        [[version]] = self._run(sql.VERSION, {})
        known = steps("postgres")
        if version > len(known):
            raise StartError(
                f"state: {self._wire.place}: its version is {version}, and this proxyd knows "
                f"{len(known)}: start the newer proxyd that made it"
            )
        for number, step in enumerate(known[version:], version + 1):
            self._wire.script(step)
            self._run(sql.SET_VERSION, {"version": number})


class _in_our_words:  # noqa: N801 (reads as one)
    """What psycopg raises, as a L{StoreError}."""

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, psycopg.DataError):
            raise Invalid(_first_line(error)) from error
        if isinstance(error, psycopg.Error | OSError):
            raise StoreLost(f"the state store: {_first_line(error)}") from error


def _noted(revision: int, change: Change) -> dict[str, object]:
    """A change as a row of C{changes}."""
    issuer, key = change.key if isinstance(change.key, tuple) else ("", str(change.key))
    return {"revision": revision, "kind": change.kind.value, "issuer": issuer, "key": key}


def _first_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
