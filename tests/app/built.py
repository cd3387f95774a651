"""
A daemon that is built and not started, for the tests of its rooms.

Nothing listens and no signal is taken: only the parts that a test needs are
started, on a reactor of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from proxyd.app.daemon import Daemon, build
from proxyd.config.model import Config, Connection, Dsn, Listener, Postgres, PostgresTls
from proxyd.config.secrets import Secret
from proxyd.target import Target

PLAIN = Postgres(
    listen=(Listener("127.0.0.1:0", "tcp", "127.0.0.1", 0),), tls=PostgresTls("disable")
)


def shop(**changes: Any) -> Connection:
    """A connection whose database is fixed: it has a pool from the start."""
    dsn = Dsn((Target("192.0.2.1", 5432),), "svc", "shop")
    return replace(Connection("shop", dsn, Secret("hush", literal=True)), **changes)


def configuration(*connections: Connection, **changes: Any) -> Config:
    """A configuration with these connections; TLS is off unless it is asked for."""
    named = {one.name: one for one in connections}
    return replace(Config("p.yaml", postgres=PLAIN, connections=named), **changes)


class DaemonTestCase(SynchronousTestCase):
    """
    A daemon that was built, and is not started.

    @ivar next: what the next reload reads; called for it
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.state = self.mktemp()
        self.environment = {"STATE_DIRECTORY": self.state}
        self.next: Callable[[], Config] = configuration
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def built(self, config: Config) -> Daemon:
        """The daemon of a configuration."""
        daemon = build(
            config,
            self.reactor,
            found="configuration: p.yaml",
            reload=lambda: self.next(),
            environment=self.environment,
        )
        self.addCleanup(daemon.link.stop)
        return daemon

    def serving(self, config: Config) -> Daemon:
        """The same, with its pools made."""
        daemon = self.built(config)
        self.reload(daemon, config)
        self.events.clear()
        return daemon

    def reload(self, daemon: Daemon, config: Config) -> None:
        """Reload, and find this."""
        self.next = lambda: config
        self.successResultOf(daemon.reload())

    def reload_fails(self, daemon: Daemon, error: Exception) -> None:
        """Reload, and fail to read."""

        def read() -> Config:
            raise error

        self.next = read
        self.successResultOf(daemon.reload())

    def logged(self, level: LogLevel) -> list[str]:
        """The log's lines of a level."""
        return [formatEvent(event) for event in self.events if event["log_level"] == level]
