"""The HTTP API in the daemon: what it offers, who may use it, and what it may ask of the daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from secrets import token_urlsafe
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred

from proxyd.app.databases import Databases
from proxyd.app.room import Ground, Room
from proxyd.app.ways import Ways
from proxyd.config.api_model import Api
from proxyd.config.model import Config
from proxyd.config.values import address_of
from proxyd.figures import Figure
from proxyd.interfaces import UpstreamStatus
from proxyd.net.certificates import state_directory
from proxyd.net.tls import server_context
from proxyd.web.admin_token import admin_token, metrics_token
from proxyd.web.api import Api as ApiResource
from proxyd.web.guard import Guard
from proxyd.web.metrics import Metrics
from proxyd.web.openapi import described
from proxyd.web.operations import Place
from proxyd.web.places import socket_path
from proxyd.web.resources.health import Health
from proxyd.web.resources.proxy import Proxy
from proxyd.web.resources.sessions import SessionsResource
from proxyd.web.resources.telling import Telling
from proxyd.web.route import Resource, Route
from proxyd.web.service import Web


class Whole(Protocol):
    """What the API needs of the daemon."""

    @property
    def rooms(self) -> Sequence[Room]:
        """All of it."""

    @property
    def phase(self) -> str:
        """C{starting}, C{ready} or C{draining}."""

    @property
    def uptime(self) -> float:
        """Seconds since the start."""

    def reopen(self) -> Deferred[None]:
        """Begin anew with what can be begun anew."""


class DaemonOperations:
    """The daemon as the API sees it."""

    def __init__(self, daemon: Whole, databases: Databases, ways: Ways) -> None:
        self._daemon = daemon
        self._databases = databases
        self._ways = ways

    @property
    def state(self) -> str:
        """C{starting}, C{ready} or C{draining}."""
        return self._daemon.phase

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self._daemon.uptime

    def places(self) -> Sequence[Place]:
        """The listeners that are open."""
        return [
            Place(kind, address)
            for room in self._daemon.rooms
            for kind, address in room.addresses()
        ]

    def pools(self) -> Sequence[dict[str, Any]]:
        """Each pool with its numbers."""
        return [
            {
                "pool": pool.name,
                "connection": pool.settings.name,
                "database": pool.database,
                "total_connections": pool.total,
                "idle_connections": pool.idle,
                "in_use_connections": pool.in_use,
                "max_connections": pool.settings.max_open_connections,
                "waiting": pool.waiting,
                "clients": pool.clients,
                "last_error": pool.last_error,
                "oldest_seconds": pool.oldest,
                "leased_over_lifetime": pool.leased_over_lifetime,
                "tokens_made": pool.tokens_made,
                "token_age_seconds": pool.token_age,
                **pool.counters.as_dict(),
            }
            for pool in self._databases.pools
        ]

    def upstreams(self) -> Sequence[dict[str, Any]]:
        """Each upstream with its instances."""
        return [
            _told(name, upstream.status()) for name, upstream in self._ways.router.upstreams.items()
        ]

    def restart(self) -> Deferred[None]:
        """Reopen pools and listeners, and keep what is in flight."""
        return self._daemon.reopen()


class ApiRoom(Room):
    """
    The HTTP API.

    @ivar web: its listeners
    @ivar routes: all calls it offers
    """

    def __init__(
        self,
        ground: Ground,
        config: Config,
        api: Api,
        daemon: Whole,
        databases: Databases,
        ways: Ways,
    ) -> None:
        """
        @param api: the configuration's section
        @param daemon: all rooms that bring calls are there already
        @raise StartError: a certificate can't be read
        """
        self._ground = ground
        self._daemon = daemon
        metrics = Metrics(self._figures)
        operations = DaemonOperations(daemon, databases, ways)
        resources: list[Resource] = [
            Health(operations),
            Telling(metrics, lambda: described(self.routes)),
            Proxy(operations, ground.sessions),
            SessionsResource(ground.sessions, ground.reactor),
            *(resource for room in daemon.rooms for resource in room.resources()),
        ]
        self.routes: list[Route] = [route for one in resources for route in one.routes()]
        # Nobody is let in by this guard: a real one takes its place before anything is opened.
        self._resource = ApiResource(self.routes, Guard(token_urlsafe(), None, ()), ground.reactor)
        self.web = Web(
            ground.reactor,
            self._resource,
            api.listen,
            socket_path(config, ground.environment),
            self._tls(api),
            metrics.counted,
        )
        self.inner = (self.web,)

    def prepare(self, config: Config) -> Callable[[], None]:
        """Tokens and certificates are read again."""
        api, web = config.api, self.web
        if api is None:
            return lambda: None
        directory = state_directory(config.state, self._ground.environment)
        guard = Guard(
            admin_token(api.admin_token, directory),
            metrics_token(api.metrics_token),
            (*api.hosts, *_hosts(api)),
        )
        tls = self._tls(api)

        def adopt() -> None:
            self._resource.guard = guard
            if web.tls.context is not None and tls is not None:
                web.tls.context = tls

        return adopt

    def open(self) -> None:
        """Open the listeners and the UNIX socket."""
        self.web.open()

    def fixed(self, config: Config) -> Mapping[str, object]:
        """Where it listens."""
        api = config.api
        return {
            "api.listen": api and api.listen,
            "api.socket": api and api.socket,
            "api.tls": api and api.tls is not None,
        }

    def places(self) -> Sequence[str]:
        """Where the API is."""
        urls = self.web.urls()
        return [f"API at {', '.join(urls)}"] if urls else []

    def addresses(self) -> Sequence[tuple[str, str]]:
        """The same, for programs."""
        return [("api", where) for where in (*self.web.urls(), f"unix:{self.web.path}")]

    def _figures(self) -> Iterable[Figure]:
        phase = self._daemon.phase
        yield Figure("ready", "1 while clients are let in", float(phase == "ready"))
        yield Figure("uptime_seconds", "Since the start", self._daemon.uptime)
        for kind, count in self._ground.sessions.counts().items():
            yield Figure("sessions", "Live sessions", count, {"kind": kind})
        for room in self._daemon.rooms:
            yield from room.figures()

    def _tls(self, api: Api) -> SSL.Context | None:
        if api.tls is None:
            return None
        return server_context(api.tls.certificate, api.tls.key, alpn=(b"http/1.1",))


def _hosts(api: Api) -> Iterable[str]:
    """The hosts of listeners as somebody may call them: 0.0.0.0 is nobody's address."""
    for place in api.listen:
        address = address_of(place.host)
        if place.host and not (address is not None and address.is_unspecified):
            yield place.host


def _told(name: str, status: UpstreamStatus) -> dict[str, Any]:
    """An upstream, as C{GET /api/docker/proxy} tells it."""
    return {
        "upstream": name,
        "state": status.state,
        "in_use": status.in_use,
        "last_error": status.last_error,
        "opened": status.opened,
        "failed": status.failed,
        "instances": [
            {
                "instance": one.name,
                "state": one.state,
                "sessions": one.sessions,
                "streams": one.streams,
                "last_error": one.last_error,
            }
            for one in status.instances
        ],
    }
