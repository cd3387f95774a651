"""Tests for L{proxyd.app.api}: the API of a daemon, and what a reload and a restart do to it."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel

from proxyd.app.api import ApiRoom, DaemonOperations
from proxyd.app.daemon import Daemon
from proxyd.config.api_model import Api
from proxyd.config.model import Config, Listener
from proxyd.config.secrets import Secret
from proxyd.config.ways import Ssh, Upstream
from proxyd.errors import StartError
from proxyd.target import Target
from proxyd.web.answer import ApiError
from proxyd.web.guard import Visit
from proxyd.web.route import Access
from tests.app.built import DaemonTestCase, configuration, shop

TOKENS = {"T": "the-token-of-the-operator", "U": "another-token-of-theirs"}


def with_api(**changes: object) -> Config:
    """A configuration with an API on its UNIX socket."""
    api = replace(Api(admin_token=Secret("env:T", TOKENS)), **changes)
    return configuration(shop(), api=api)


class ApiRoomTests(DaemonTestCase):
    """The room of the API."""

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="pxd")
        self.addCleanup(folder.cleanup)
        self.environment["RUNTIME_DIRECTORY"] = folder.name

    def room(self, daemon: Daemon) -> ApiRoom:
        """The API's."""
        room = daemon.rooms[-1]
        assert isinstance(room, ApiRoom)
        return room

    def opens(self, daemon: Daemon, token: str) -> bool:
        """Whether a token opens the API."""
        visit = Visit(False, "192.0.2.1", "", False, {"authorization": [f"Bearer {token}"]})
        try:
            self.room(daemon)._resource.guard.check_access(visit, Access.ADMIN)
        except ApiError:
            return False
        return True

    def test_absent(self) -> None:
        """Without the section there is no API, and its libraries are not waited for."""
        daemon = self.built(configuration(shop()))
        self.assertFalse(any(isinstance(room, ApiRoom) for room in daemon.rooms))

    def test_last(self) -> None:
        """It stops after the listeners, so that a drain can be watched."""
        daemon = self.built(with_api())
        parts = list(daemon)
        listener = daemon.databases.listener
        assert listener is not None
        self.assertLess(parts.index(self.room(daemon).web), parts.index(listener))

    def test_token_made(self) -> None:
        """Where none is given, one is made in the state directory before anything is opened."""
        daemon = self.serving(with_api(admin_token=None))
        with open(os.path.join(self.state, "admin.token")) as file:
            self.assertTrue(self.opens(daemon, file.read().strip()))
        self.assertFalse(self.opens(daemon, ""))

    def test_reload(self) -> None:
        """Tokens are read again; where it listens waits for the next start, and the log says so."""
        daemon = self.serving(with_api())
        self.assertTrue(self.opens(daemon, TOKENS["T"]))
        self.reload(daemon, with_api(admin_token=Secret("env:U", TOKENS), socket="/tmp/other"))
        self.assertFalse(self.opens(daemon, TOKENS["T"]))
        self.assertTrue(self.opens(daemon, TOKENS["U"]))
        (warning,) = self.logged(LogLevel.warn)
        self.assertEqual(warning, "at the next start only: api.socket")

    def test_reload_that_fails(self) -> None:
        """A token that can't be read leaves the one before in force."""
        daemon = self.serving(with_api())
        self.reload(daemon, with_api(admin_token=Secret("env:NONE", TOKENS)))
        self.assertTrue(self.opens(daemon, TOKENS["T"]))
        self.assertIn("NONE is not set", self.logged(LogLevel.error)[0])

    def test_section_that_comes(self) -> None:
        """Nothing is opened by a reload, and the log says so."""
        daemon = self.serving(configuration(shop()))
        self.reload(daemon, with_api())
        self.assertIn("api", self.logged(LogLevel.warn)[0])

    def test_section_that_goes(self) -> None:
        """Who came by it may go on."""
        daemon = self.serving(with_api())
        self.reload(daemon, configuration(shop()))
        self.assertTrue(self.opens(daemon, TOKENS["T"]))

    def test_every_route(self) -> None:
        """Whatever rooms bring, all but health and metrics needs the token; each is there once."""
        routes = self.room(self.serving(with_api())).routes
        open_to_more = {route.path for route in routes if route.access is not Access.ADMIN}
        self.assertEqual(open_to_more, {"/healthz", "/readyz", "/metrics"})
        keys = [route.key for route in routes]
        self.assertEqual(len(keys), len(set(keys)))
        self.assertIn("POST /api/tokens", keys)

    def test_hosts(self) -> None:
        """It may be called by its listeners' names and addresses, but not by 0.0.0.0."""
        places = (
            Listener("192.0.2.9:1", "tcp", "192.0.2.9", 1),
            Listener("0.0.0.0:1", "tcp", "0.0.0.0", 1),
            Listener("[::]:1", "tcp", "::", 1),
        )
        daemon = self.serving(with_api(listen=places, hosts=("proxy.example",)))
        good = []
        for host in ("192.0.2.9", "0.0.0.0", "[::]", "proxy.example", "192.0.2.1", "x.example"):
            visit = Visit(False, "192.0.2.3", "192.0.2.1", False, {"host": [host]})
            try:
                self.room(daemon)._resource.guard.check_origin(visit)
            except ApiError:
                continue
            good.append(host)
        self.assertEqual(good, ["192.0.2.9", "proxy.example", "192.0.2.1"])

    def test_figures(self) -> None:
        """Every room's numbers are told, and all have an explanation."""
        daemon = self.serving(with_api())
        figures = list(self.room(daemon)._figures())
        names = {figure.name for figure in figures}
        self.assertLessEqual({"ready", "sessions", "pool_connections"}, names)
        self.assertTrue(all(figure.about for figure in figures))
        about = {(figure.name, figure.about) for figure in figures}
        self.assertEqual(len(about), len(names), "one explanation for each")


class OperationsTests(DaemonTestCase):
    """What the API may do to the daemon."""

    def operations(self, daemon: Daemon) -> DaemonOperations:
        """The daemon as the API sees it."""
        return DaemonOperations(daemon, daemon.databases, daemon.ways)

    def test_state(self) -> None:
        """Ready once the reactor runs, draining from the first moment of a stop."""
        daemon = self.serving(configuration(shop()))
        operations = self.operations(daemon)
        self.assertEqual(operations.state, "starting")
        daemon._ready()
        self.assertEqual(operations.state, "ready")
        self.reactor.advance(5)
        self.assertEqual(operations.uptime, 5)
        daemon.drain()
        self.assertEqual(operations.state, "draining")

    def test_pools(self) -> None:
        """Each pool with the numbers that the contract names."""
        operations = self.operations(self.serving(configuration(shop())))
        (pool,) = operations.pools()
        self.assertEqual((pool["connection"], pool["database"]), ("shop", "shop"))
        for name in ("total_connections", "idle_connections", "in_use_connections"):
            self.assertEqual(pool[name], 0)
        self.assertIn("acquire_count", pool)
        self.assertIn("max_lifetime_closed", pool)

    def test_upstreams(self) -> None:
        """Each upstream with its instances, in their order."""
        hosts = (Target("192.0.2.7", 22), Target("192.0.2.8", 2222))
        office = Upstream("office", Ssh("ops"), hosts=hosts)
        daemon = self.serving(configuration(upstreams={"office": office}))
        (told,) = self.operations(daemon).upstreams()
        self.assertEqual((told["upstream"], told["in_use"], told["opened"]), ("office", None, 0))
        names = [one["instance"] for one in told["instances"]]
        self.assertEqual(names, ["192.0.2.7:22", "192.0.2.8:2222"])

    def test_restart(self) -> None:
        """Pools are made anew; what one room can't open keeps no other from it."""
        daemon = self.serving(configuration(shop()))
        (before,) = daemon.databases.pools

        async def fail() -> None:
            raise StartError("the port is taken")

        listener = daemon.databases.listener
        assert listener is not None
        listener.reopen = fail  # type: ignore[method-assign]
        restarting: Deferred[None] = self.operations(daemon).restart()
        error = self.failureResultOf(restarting, StartError)
        self.assertIn("the port is taken", str(error.value))
        (after,) = daemon.databases.pools
        self.assertIsNot(before, after)

    def test_restarts(self) -> None:
        """Several that are asked for at once take their turn: two would be in each other's way."""
        daemon = self.serving(configuration(shop()))
        begun: list[Deferred[None]] = []

        async def slow() -> None:
            begun.append(Deferred())
            await begun[-1]

        listener = daemon.databases.listener
        assert listener is not None
        listener.reopen = slow  # type: ignore[method-assign]
        operations = self.operations(daemon)
        first, second, given_up, third = (operations.restart() for _ in range(4))
        self.assertEqual(len(begun), 1)
        # One who waits no more is not waited for.
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        begun[0].errback(StartError("the port is taken"))
        self.failureResultOf(first, StartError)
        self.assertEqual(len(begun), 2)
        begun[1].callback(None)
        self.successResultOf(second)
        begun[2].callback(None)
        self.successResultOf(third)
        self.assertEqual(len(begun), 3)
