"""
Test cases that look at a whole proxyd from outside, without a reactor.

Each test has a deadline, shows proxyd's log when it fails, and ends by waiting
until proxyd holds no client's connection: a leaked one is seen by nothing else.
"""

from __future__ import annotations

import atexit
import functools
import json
import signal
import sys
from collections.abc import Mapping
from types import FrameType

from twisted.trial.reporter import TestResult, TestResultDecorator
from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import PORT, Daemon
from tests.support.database import (
    DATABASE,
    OPEN_SERVICE,
    SERVICE,
    Database,
    shared_database,
)
from tests.support.wireclient import WireClient

LOG_SHOWN = 6000
AGAIN_SECONDS = 5.0


class TooLong(Exception):
    """A test took too long; no TimeoutError, which a test may take for its server's silence."""


class BlackBoxTestCase(SynchronousTestCase):
    """
    A test of a whole daemon.

    @cvar deadline: seconds that one test may take
    """

    deadline = 180.0

    def run(self, result: TestResult) -> None:  # type: ignore[override]
        """Run the test; when it fails show what proxyd logged meanwhile."""
        self._logs: list[str] = []
        noticing = _Noticing(result)
        super().run(noticing)
        if noticing.troubled:
            for text in self._logs:
                sys.stderr.write(f"\n--- proxyd's log during {self.id()}:\n{text}\n")

    def setUp(self) -> None:
        """Arm the deadline."""
        super().setUp()
        previous = signal.signal(signal.SIGALRM, self._too_late)
        self.addCleanup(signal.signal, signal.SIGALRM, previous)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        # Again and again: whoever tries a failed example once more is too late as well.
        signal.setitimer(signal.ITIMER_REAL, self.deadline, AGAIN_SECONDS)

    @property
    def database(self) -> Database:
        """The server behind, with its roles and tables."""
        return shared_database()

    def has_extension(self, name: str) -> bool:
        """Have an extension in the server until the test ends; says whether the server knows it."""
        known = f"SELECT count(*) FROM pg_available_extensions WHERE name = '{name}'"
        with self.database.admin() as admin:
            if admin.value(known) != "1":
                return False
            admin.query(f"CREATE EXTENSION IF NOT EXISTS {name}")
        # Others dump this server: not every user may dump an extension.
        self.addCleanup(self._forget_extension, name)
        return True

    def _forget_extension(self, name: str) -> None:
        with self.database.admin() as admin:
            admin.query(f"DROP EXTENSION {name} CASCADE")

    def watch(self, daemon: Daemon) -> Daemon:
        """Have the test end by waiting until this daemon holds no client any more."""
        start = len(daemon.log_text())
        self.addCleanup(self._end_watch, daemon, start)
        return daemon

    def start_daemon(self, configuration: str) -> Daemon:
        """A daemon for this test alone."""
        daemon = Daemon(configuration)
        self.addCleanup(daemon.remove)
        self.addCleanup(self._stop, daemon)
        daemon.start()
        return self.watch(daemon)

    def keep(self, client: WireClient) -> WireClient:
        """Have a client closed when the test ends."""
        self.addCleanup(client.close)
        return client

    def _stop(self, daemon: Daemon) -> None:
        daemon.stop()

    def _end_watch(self, daemon: Daemon, start: int) -> None:
        try:
            if daemon.is_running:
                daemon.wait_no_clients()
        finally:
            self._logs.append(daemon.log_text()[start:][-LOG_SHOWN:])

    def _too_late(self, number: int, frame: FrameType | None) -> None:
        raise TooLong(f"the test took longer than {self.deadline:g} s")


class _Noticing(TestResultDecorator):
    """A reporter that remembers whether it was told of a failure."""

    troubled = False

    def addError(self, test: object, error: object) -> None:
        """An error: pass it on."""
        self.troubled = True
        super().addError(test, error)

    def addFailure(self, test: object, failure: object) -> None:
        """A failure: pass it on."""
        self.troubled = True
        super().addFailure(test, failure)


def configuration(
    connections: Mapping[str, Mapping[str, object]],
    postgres: Mapping[str, object] | None = None,
    **sections: object,
) -> str:
    """
    A configuration's text (JSON is YAML) that listens on the daemon's port.

    @param postgres: more keys of that section
    @param sections: more sections
    """
    listener = {"listen": [f"127.0.0.1:{PORT}"]} | dict(postgres or {})
    return json.dumps({"postgres": listener, "connections": connections, **sections}, indent=1)


def service(database: Database, **keys: object) -> dict[str, object]:
    """A connection for C{connections:} to the server, as the service user, without TLS."""
    made = {"dsn": database.dsn(sslmode="disable"), "password": database.passwords[SERVICE]}
    return made | keys


def open_service(database: Database, **keys: object) -> dict[str, object]:
    """The same as the service user that logs in without a password, for clients that do."""
    dsn = database.dsn(OPEN_SERVICE, DATABASE, sslmode="disable")
    return {"dsn": dsn, "auth": "trust"} | keys


@functools.cache
def shared_daemon(text: str) -> Daemon:
    """
    The one daemon of this process with this configuration; stopped when the process ends.

    @raise AssertionError: it does not start
    """
    daemon = Daemon(text)
    atexit.register(daemon.remove)
    atexit.register(daemon.stop)
    daemon.start()
    return daemon
