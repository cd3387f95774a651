"""
One connection to the PostgreSQL that is the store, made anew when it is lost.

Used by one thread; only L{Wire.interrupt} may be called from another.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from proxyd.errors import StartError
from proxyd.store.rows import Row

_USUAL = {
    "application_name": "proxyd",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}


class Wire:
    """
    A connection that is there when it is needed.

    @ivar place: where it leads, without a password
    @ivar made: how many connections there were so far
    """

    def __init__(self, dsn: str, deadline: float) -> None:
        """
        @param deadline: seconds that connecting, and any one statement, may take
        @raise StartError: the DSN can't be read; its text quotes nothing of it
        """
        try:
            said = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
        except psycopg.Error:
            raise StartError("state: this is no connection string that libpq can read") from None
        settings = f"-c search_path=proxyd -c statement_timeout={int(deadline * 1000)}"
        said["options"] = f"{said.get('options', '')} {settings}".strip()
        said.setdefault("connect_timeout", str(max(2, int(deadline))))
        said.setdefault("tcp_user_timeout", str(int(deadline * 1000)))
        self._conninfo = make_conninfo("", **{**_USUAL, **said})
        hosts, ports = said.get("host", ""), said.get("port", "")
        self.place = f"postgresql://{hosts}{':' if ports else ''}{ports}/{said.get('dbname', '')}"
        self.made = 0
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def connected(self) -> bool:
        """Whether the connection of the last transaction is still there."""
        return self._connection is not None and not self._connection.closed

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """
        The connection.

        @raise psycopg.Error: it can't be made
        """
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._conninfo, autocommit=True)
            self.made += 1
        return self._connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """
        All or nothing. A connection that was lost while it was idle is made anew first.

        @raise psycopg.Error: as soon as anything fails; nobody knows whether
            what failed at its end was done
        """
        if self._connection is not None and self._broken(self._connection):
            self.close()
        connection = self.connection
        try:
            with connection.transaction():
                yield
        except (psycopg.OperationalError, OSError):
            if connection.closed or self._broken(connection):
                self.close()
            raise

    def run(self, statement: str, values: Mapping[str, object]) -> list[Row]:
        """One statement and its rows."""
        cursor = self.connection.execute(statement, dict(values), prepare=False)
        return cursor.fetchall() if cursor.description is not None else []

    def script(self, text: str) -> None:
        """Many statements, without values."""
        self.connection.execute(text)

    def interrupt(self) -> None:
        """From another thread: whatever is waited for fails now."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        try:
            copy = socket.socket(fileno=os.dup(connection.fileno()))
        except (OSError, psycopg.Error):
            return
        try:
            copy.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is lost already
        finally:
            copy.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except psycopg.Error:
                pass  # it is lost already

    def _broken(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether a connection at rest has ended: then it has something to read."""
        if connection.closed:
            return True
        try:
            if not self._quiet(connection):
                connection.execute("SELECT 1")
        except (psycopg.Error, OSError):
            return True
        return False

    def _quiet(self, connection: psycopg.Connection[Any]) -> bool:
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        try:
            copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        finally:
            copy.close()
        return False
