"""
Tests for L{proxyd.app.daemon}: the parts put together, and what a reload and a drain do.

Nothing listens and no signal is taken: the daemon is built, and only the
parts that a test needs are started, on a reactor of memory.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.application.service import IService
from twisted.logger import LogLevel

from proxyd.app.daemon import Daemon
from proxyd.config.model import Config, Listener, Log, PostgresTls
from proxyd.config.secrets import Secret
from proxyd.errors import ConfigError, Problem, StartError
from tests.app.built import PLAIN, DaemonTestCase, configuration, shop


class BuildTests(DaemonTestCase):
    """What a configuration makes."""

    def test_order(self) -> None:
        """What leans on something comes after it: it starts later and stops earlier."""
        daemon = self.built(configuration(shop()))
        assert daemon.databases.listener is not None
        parts: list[IService] = list(daemon)
        stack = [
            daemon.resolver,
            daemon.getServiceNamed("link"),
            daemon.databases.pools,
            daemon.databases.listener,
        ]
        places = [parts.index(part) for part in stack]
        self.assertEqual(places, sorted(places))
        self.assertFalse(any(part.running for part in parts))

    def test_no_listener(self) -> None:
        """A section that is absent opens nothing, and needs no certificate."""
        daemon = self.built(Config())
        self.assertIsNone(daemon.databases.listener)
        self.assertFalse(os.path.exists(self.state))

    def test_nothing_is_opened(self) -> None:
        """To build is not to start: no socket listens or dials, no timer runs."""
        self.built(configuration(shop()))
        self.assertEqual((self.reactor.tcpServers, self.reactor.tcpClients), ([], []))
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class ReloadTests(DaemonTestCase):
    """SIGHUP: a good configuration is in force afterwards, a bad one changes nothing."""

    def test_good(self) -> None:
        """Listener and pools go by the new one; what is unchanged stays."""
        kept = shop(name="kept")
        daemon = self.serving(configuration(shop(), kept))
        before = {pool.settings.name: pool for pool in daemon.databases.pools}
        settings = replace(PLAIN, max_clients=7, auth_timeout=1.0)
        changed = shop(max_open_connections=3)
        config = configuration(changed, kept, postgres=settings, log=Log(statements="on"))
        self.reload(daemon, config)
        self.assertIs(daemon.config, config)
        assert daemon.databases.listener is not None
        self.assertIs(daemon.databases.listener.settings, settings)
        self.assertTrue(daemon.databases.listener.log_statements)
        after = {pool.settings.name: pool for pool in daemon.databases.pools}
        self.assertEqual(after.keys(), {"shop", "kept"})
        self.assertIs(after["kept"], before["kept"])
        self.assertEqual(after["shop"].settings, changed)
        self.assertIs(before["shop"].current, after["shop"])
        self.assertEqual(self.logged(LogLevel.info)[-1], "configuration reloaded")
        self.assertEqual(self.logged(LogLevel.error), [])

    def test_names(self) -> None:
        """Clients find the connections that came, and none that went."""
        daemon = self.serving(configuration(shop()))
        assert daemon.databases.listener is not None
        before = daemon.databases.listener.directory
        self.assertIsNotNone(before.find("shop"))
        self.reload(daemon, configuration(shop(name="other")))
        self.assertIsNone(daemon.databases.listener.directory.find("shop"))
        self.assertIsNotNone(daemon.databases.listener.directory.find("other"))

    def assert_unchanged(self, daemon: Daemon, fail: Callable[[], None], *said: str) -> None:
        """A reload that fails like this is told by these lines, and changes nothing."""
        assert daemon.databases.listener is not None
        listener = daemon.databases.listener

        def all_of_it() -> list[object]:
            inside = (daemon.config, listener.settings, listener.tls, listener.directory)
            return [*map(id, inside), *map(id, daemon.databases.pools), listener.log_statements]

        before = all_of_it()
        fail()
        self.assertEqual(all_of_it(), before)
        self.assertEqual(self.logged(LogLevel.error), [f"not reloaded: {line}" for line in said])
        self.assertNotIn("configuration reloaded", self.logged(LogLevel.info))

    def test_bad(self) -> None:
        """One that can't be used: each of its problems is a line."""
        daemon = self.serving(configuration(shop()))
        problems = [Problem("p.yaml", 3, "log.level", "no"), Problem("p.yaml", 9, "x", "unknown")]
        self.assert_unchanged(
            daemon,
            lambda: self.reload_fails(daemon, ConfigError(problems)),
            "p.yaml:3: log.level: no",
            "p.yaml:9: x: unknown",
        )

    def test_unreadable(self) -> None:
        """The file, its certificate or a password can't be read: one line says which."""
        tls = PostgresTls("prefer", "/none/c.pem", "/none/k.pem")
        changed = shop(max_open_connections=3)
        no_certificate = configuration(changed, postgres=replace(PLAIN, tls=tls))
        no_password = configuration(
            changed,
            shop(name="other", password=Secret("env:SHOP_PASSWORD", {})),
            log=Log(statements="on"),
        )
        daemon = self.serving(configuration(shop()))
        for fail, said in (
            (lambda: self.reload_fails(daemon, StartError("p.yaml: gone")), "p.yaml: gone"),
            (
                lambda: self.reload(daemon, no_certificate),
                "certificate /none/c.pem: No such file or directory",
            ),
            (
                lambda: self.reload(daemon, no_password),
                "variable SHOP_PASSWORD is not set: set it, or change env:SHOP_PASSWORD",
            ),
        ):
            self.assert_unchanged(daemon, fail, said)
            self.events.clear()

    def test_better_next_time(self) -> None:
        """After a bad one the next good one is adopted."""
        daemon = self.serving(configuration(shop()))
        self.reload_fails(daemon, ConfigError([Problem("p.yaml", 1, "", "no")]))
        config = configuration(shop(max_open_connections=3))
        self.reload(daemon, config)
        self.assertIs(daemon.config, config)
        self.assertEqual(
            [pool.settings.max_open_connections for pool in daemon.databases.pools], [3]
        )

    def test_what_waits(self) -> None:
        """What a reload can't change is named, and only when it was changed."""
        daemon = self.serving(configuration(shop()))
        self.reload(daemon, configuration(shop(max_open_connections=3)))
        self.assertEqual(self.logged(LogLevel.warn), [])
        elsewhere = replace(PLAIN, listen=(Listener("unix:/run/pg", "unix", path="/run/pg"),))
        self.reload(daemon, configuration(shop(), postgres=elsewhere))
        self.assertEqual(self.logged(LogLevel.warn), ["at the next start only: postgres.listen"])
        # Back at what was started with, nothing waits.
        self.events.clear()
        self.reload(daemon, configuration(shop()))
        self.assertEqual(self.logged(LogLevel.warn), [])

    def test_service_manager(self) -> None:
        """It is told of the reload and of its end, whether it went well or not."""
        there = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(there.close)
        there.setblocking(False)
        # An empty address: the kernel chooses an abstract name that nobody has.
        there.bind("")
        self.environment["NOTIFY_SOCKET"] = "@" + there.getsockname()[1:].decode()
        daemon = self.built(configuration(shop()))
        self.reload(daemon, configuration(shop()))
        self.reload_fails(daemon, StartError("p.yaml: gone"))
        self.reload_fails(daemon, ZeroDivisionError("a bug"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        ready = "READY=1\nSTATUS=PostgreSQL at 127.0.0.1:0"
        for _ in range(3):
            self.assertTrue(there.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC="))
            self.assertEqual(there.recv(4096).decode(), ready)


class SessionStub:
    """Of a session that will not end: who has it, and what it was told."""

    def __init__(self, daemon: Daemon) -> None:
        (self.pool,) = daemon.databases.pools
        self.drains = 0
        self.term = None

    def drain(self) -> None:
        """It should go, and does not."""
        self.drains += 1


class DrainTests(DaemonTestCase):
    """SIGTERM: everybody may finish, for a while."""

    def test_nobody_here(self) -> None:
        """Where nobody is there is nothing to wait for; new clients are turned away."""
        daemon = self.serving(configuration(shop()))
        self.successResultOf(daemon.drain())
        assert daemon.databases.listener is not None
        self.assertTrue(daemon.databases.listener.draining)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.logged(LogLevel.warn), [])

    def test_no_listener(self) -> None:
        """A daemon without a listener is drained at once."""
        self.successResultOf(self.built(Config()).drain())

    def test_too_long(self) -> None:
        """Who is still there at drain_timeout is waited for no longer, and the log says so."""
        daemon = self.serving(configuration(shop(), drain_timeout=12.0))
        assert daemon.databases.listener is not None
        session: Any = SessionStub(daemon)
        daemon.databases.listener.begun(session)
        drained = daemon.drain()
        self.assertEqual(session.drains, 1)
        self.reactor.advance(11.9)
        self.assertNoResult(drained)
        self.reactor.advance(0.2)
        self.successResultOf(drained)
        (line,) = self.logged(LogLevel.warn)
        self.assertEqual(line, "1 sessions did not end within 12 s: they are ended now")


class StatisticsTests(DaemonTestCase):
    """The line that each pool has in the log, once a minute."""

    def test_pool(self) -> None:
        """Its name and its numbers, by the names that the status has."""
        daemon = self.serving(configuration(shop(acquire_timeout=30.0)))
        (pool,) = daemon.databases.pools
        pool.clients = 2
        pool.counters.acquire_count = 5
        pool.counters.acquire_timeouts = 1
        pool.counters.max_lifetime_closed = 4
        statistics = daemon.getServiceNamed("statistics")
        statistics.startService()
        self.addCleanup(statistics.stopService)
        self.reactor.advance(60.0)
        self.assertEqual(
            self.logged(LogLevel.info),
            [
                (
                    "pool shop/shop/svc: total_connections=0 idle_connections=0 "
                    "in_use_connections=0 waiting=0 clients=2 acquire_count=5 "
                    "acquire_timeouts=1 max_lifetime_closed=4"
                )
            ],
        )

    def test_all_counters(self) -> None:
        """A log of fields has every counter, not only those in the text."""
        daemon = self.serving(configuration(shop(), shop(name="other")))
        statistics = daemon.getServiceNamed("statistics")
        statistics.startService()
        self.addCleanup(statistics.stopService)
        self.reactor.advance(60.0)
        self.assertEqual(
            {event["pool"] for event in self.events}, {"shop/shop/svc", "other/shop/svc"}
        )
        for event, pool in zip(self.events, daemon.databases.pools, strict=True):
            self.assertLessEqual(pool.counters.as_dict().keys(), event.keys())
