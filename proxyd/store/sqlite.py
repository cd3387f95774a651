"""
The store of a proxyd that stands alone: an SQLite file.

What was answered is on disk (WAL, C{synchronous=FULL}): neither a kill nor a
power cut takes it back. One process has it at a time, by a lock beside it:
what another one changed would not be heard of.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from proxyd.errors import StartError
from proxyd.interfaces import IStore
from proxyd.records import NodeRecord, StoreError, StoreLost
from proxyd.store.rows import Row, Rows
from proxyd.store.schema import steps
from proxyd.store.served import ServedStore
from proxyd.store.statements import APPLICATION
from proxyd.store.worker import Worker

T = TypeVar("T")

_log = Logger()

_PRIVATE = 0o600
_HEADER = b"SQLite format 3\0"
_BUSY = 5.0


@implementer(IStore)
class SqliteStore(ServedStore):
    """See L{IStore}."""

    def __init__(
        self, reactor: Any, path: str, deadline: float, clock: IReactorTime | None = None
    ) -> None:
        """
        @param path: the file; it and its folder are made where they are not there
        @param deadline: seconds that a call may take
        @param clock: tells the hour that is written down; None: the reactor's
        """
        super().__init__()
        self._clock: IReactorTime = reactor if clock is None else clock
        self._path = path
        self._worker = Worker(reactor, "store", deadline)
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None

    def open(self) -> Deferred[None]:
        """See L{IStore}."""
        self._worker.start()
        return self._worker.call(self._open)

    def open_now(self) -> Deferred[None]:
        """
        Open it at once, before the reactor runs: until L{start} every call is answered at once.
        """
        self._worker.go_ahead()
        return self._worker.call(self._open)

    def start(self) -> None:
        """The reactor runs: go on in a thread."""
        self._worker.start()

    def close(self) -> Deferred[None]:
        """See L{IStore}."""
        closing = self._worker.call(self._close)
        ended = self._worker.stop()
        # Whatever went wrong: the caller wants it closed, and waits until it is.
        return closing.addErrback(lambda _: None).addCallback(lambda _: ended)

    def read(self, work: Callable[[Rows], T]) -> Deferred[T]:
        """See L{ServedStore}."""
        return self._worker.call(lambda: self._in_transaction(work))

    def write(self, work: Callable[[Rows], T]) -> Deferred[T]:
        """See L{ServedStore}."""
        return self._worker.call(lambda: self._in_transaction(work))

    def join(self, name: str, address: str) -> Deferred[NodeRecord]:
        """See L{IStore}."""
        now = int(self._clock.seconds())
        return self.write(lambda rows: rows.join(name, address, now))

    def nodes(self) -> Deferred[list[NodeRecord]]:
        """See L{IStore}."""
        now = int(self._clock.seconds())
        return self.read(lambda rows: rows.nodes(now))

    # In the thread

    def _in_transaction(self, work: Callable[[Rows], T]) -> T:
        connection = self._connection
        if connection is None:
            raise StoreLost("the store is closed")

        def run(statement: str, values: Mapping[str, object]) -> list[Row]:
            return connection.execute(statement, dict(values)).fetchall()

        rows = Rows(run)
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreLost(f"{self._path}: {error}") from error
        if rows.changes:
            # Ahead of the answer, and also where nobody waits for that any more.
            self._worker.tell(lambda: self.tell(rows.changes))
        return result

    def _open(self) -> None:
        try:
            self._take()
            self._connection = self._connected()
        except StoreError as error:
            self._let_go()
            raise StartError(str(error)) from None
        except OSError as error:
            self._let_go()
            raise StartError(f"state file {self._path}: {error.strerror}") from None
        except sqlite3.Error as error:
            self._let_go()
            raise StartError(
                f"state file {self._path}: {error}; it is left as it is: put a good copy there, "
                "or move it away to begin with an empty one"
            ) from None
        except StartError:
            self._let_go()
            raise

    def _take(self) -> None:
        """Make the file if there is none, for us alone, and keep other processes out."""
        folder = os.path.dirname(self._path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._look_at()
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
        self._lock = lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"state file {self._path}: another process uses it: give this one its own `state`"
            ) from None
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE))

    def _look_at(self) -> None:
        """Refuse what can't be ours, before anything is made beside it."""
        try:
            if not stat.S_ISREG(os.stat(self._path).st_mode):
                raise StartError(f"state file {self._path}: this is no file")
            with open(self._path, "rb") as file:
                if file.read(len(_HEADER)) not in (b"", _HEADER):
                    raise sqlite3.DatabaseError("file is not a database")
        except FileNotFoundError:
            pass

    def _close_to_others(self) -> None:
        """Done when the file is known to be ours: another's must stay as it is."""
        if stat.S_IMODE(os.stat(self._path).st_mode) & ~_PRIVATE:
            os.chmod(self._path, _PRIVATE)
            _log.warn("{path} was open to others: it is closed to them now", path=self._path)

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False
        )
        try:
            self._check(connection)
            self._close_to_others()
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._bring_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        """Refuse what is not ours, before a byte of it is changed."""
        [application] = connection.execute("PRAGMA application_id").fetchone()
        [version] = connection.execute("PRAGMA user_version").fetchone()
        [tables] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application != APPLICATION and (application or version or tables):
            raise StartError(f"state file {self._path}: this is a database of something else")
        known = len(steps("sqlite"))
        if version > known:
            raise StartError(
                f"state file {self._path}: its version is {version}, and this proxyd knows "
                f"{known}: start the newer proxyd that made it"
            )
        [result] = connection.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise StartError(f"state file {self._path}: it is corrupt ({result.splitlines()[-1]})")

    def _bring_up(self, connection: sqlite3.Connection) -> None:
        """Go the steps that are missing, each of them whole or not at all."""
        [version] = connection.execute("PRAGMA user_version").fetchone()
        for number, step in enumerate(steps("sqlite")[version:], version + 1):
            connection.executescript(
                f"BEGIN IMMEDIATE; {step} PRAGMA application_id = {APPLICATION};"
                f" PRAGMA user_version = {number}; COMMIT;"
            )

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
