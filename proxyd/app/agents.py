"""Reverse agents in the daemon: their listener, their registry, and the ports."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from proxyd.agents.ports import PortSessions
from proxyd.agents.proxies import Proxies
from proxyd.agents.registry import AgentRegistry
from proxyd.agents.tls import pin_of
from proxyd.agents.upstream import AgentUpstream
from proxyd.agents.websocket import AgentServerFactory
from proxyd.app.room import Ground, Line, Room
from proxyd.config.agents_model import Agents
from proxyd.config.model import Config
from proxyd.config.values import is_local
from proxyd.config.ways import Upstream
from proxyd.errors import StartError
from proxyd.figures import Figure
from proxyd.interfaces import IStore
from proxyd.net.certificates import own_certificate, state_directory
from proxyd.net.clock import WallClock
from proxyd.net.context import Context
from proxyd.net.listening import open_port, spoken_address
from proxyd.net.pem import load_certificates
from proxyd.net.tls import server_context
from proxyd.web.resources.agents import AgentsResource
from proxyd.web.resources.proxies import ProxiesResource
from proxyd.web.route import Resource

_log = Logger()

MOST_AGENTS = 10_000
"""WebSockets of agents at a time."""


_PORT_LINE = (
    "port {port}: {users} users now, {total} so far, {received} bytes in, {sent} bytes out, "
    "{errors} errors"
)


class AgentsRoom(Room):
    """
    Agents and what is reached through them.

    @ivar agents: the registry
    @ivar proxies: the reverse ports
    """

    def __init__(self, ground: Ground, config: Config, settings: Agents, store: IStore) -> None:
        """
        @param settings: the section C{agents}
        @raise StartError: a certificate can't be read
        """
        self._ground = ground
        reactor: Any = ground.reactor
        self.settings = settings
        self.agents = AgentRegistry(reactor, store, settings)
        self.proxies = Proxies(reactor, store, self.agents, settings, ground.sessions.next_number)
        ground.sessions.add(PortSessions(lambda: iter(self.proxies)))
        self._certificate = ""
        context = self._context(config, settings)
        self._tls = None if context is None else Context(context)
        self._ports: list[IListeningPort] = []
        self._factory = AgentServerFactory(self.agents.admit, self.agents.opened, MOST_AGENTS)
        self._loaded = False
        self.inner = (self.agents, self.proxies)
        self.doors = (_Doors(self._close),)

    def upstream(self, upstream: Upstream) -> AgentUpstream:
        """The upstream of the configuration that leads through agents."""
        resolves = "local" if upstream.resolve == "local" else "far"
        return AgentUpstream(upstream.name, self.agents, upstream.agents, resolves)

    def prepare(self, config: Config) -> Callable[[], None]:
        """Certificates are read again; ports of the configuration come and go."""
        settings = config.agents or self.settings
        context = self._context(config, settings)

        def adopt() -> None:
            if self._tls is not None and context is not None:
                self._tls.context = context
            self.agents.settings = settings
            if self._loaded:
                self.proxies.adopt(settings)

        return adopt

    def open(self) -> None:
        """
        Open the listener and the ports.

        @raise StartError: one can't be had, or the store not be read
        """
        _now(Deferred.fromCoroutine(self.agents.load()))
        factory: Any = self._factory
        if self._tls is not None:
            factory = TLSMemoryBIOFactory(self._tls, False, factory)
        for place in self.settings.listen:
            self._ports.append(open_port(self._ground.reactor, place, factory))
            _log.info("agents are welcome at {place}", place=place.text)
        self.proxies.open_configured()
        _now(Deferred.fromCoroutine(self.proxies.open_kept()))
        self._loaded = True

    def drain(self) -> Deferred[Any]:
        """Ports let nobody in any more; fires when their users have left."""
        return DeferredList([port.drain() for port in self.proxies], consumeErrors=True)

    def left(self) -> int:
        """Users of ports."""
        return sum(len(port.users) for port in self.proxies)

    def fixed(self, config: Config) -> Mapping[str, object]:
        """Where it listens."""
        return {"agents.listen": config.agents and config.agents.listen}

    def descriptors(self, config: Config) -> tuple[int, int]:
        """Users of ports are not counted here: each port has its own limit."""
        return (0, 0)

    def places(self) -> Sequence[str]:
        """Where agents come."""
        return (f"agents at {', '.join(place.text for place in self.settings.listen)}",)

    def addresses(self) -> Sequence[tuple[str, str]]:
        """The listener and the ports."""
        found = [("agents", _shown(port.getHost())) for port in self._ports]
        found += [
            ("reverse port", spoken_address((port.settings.bind, port.settings.local_port)))
            for port in self.proxies
        ]
        return found

    def resources(self) -> Sequence[Resource]:
        """C{/api/agents} and C{/api/proxy}."""
        return (AgentsResource(self.agents, self._pin), ProxiesResource(self.proxies))

    def figures(self) -> Iterator[Figure]:
        """Agents and ports, in numbers."""
        here = [one for one in self.agents.status() if one.since is not None]
        yield Figure("agents_connected", "Agents that are here", len(here))
        about = "Connections of agents that have ended"
        yield Figure("agents_lost", about, self.agents.lost, only_grows=True)
        about = "Connections closed before they were an agent's, since too many were there"
        away = self._factory.turned_away
        yield Figure("agent_strangers_turned_away", about, away, only_grows=True)
        for one in here:
            labels = {"agent": one.client_id}
            yield Figure("agent_round_trip_seconds", "The last ping", one.round_trip, labels)
        for port in self.proxies:
            labels = {"port": str(port.settings.local_port)}
            yield Figure("reverse_port_users", "Users now", len(port.users), labels)
            about = "Users that came"
            yield Figure("reverse_port_opened", about, port.total, labels, only_grows=True)
            for direction, count in (("in", port.received), ("out", port.sent)):
                ways = {**labels, "direction": direction}
                about = "Bytes from and to users"
                yield Figure("reverse_port_bytes", about, count, ways, only_grows=True)
            for kind, count in port.errors.items():
                kinds = {**labels, "kind": kind}
                about = "What went wrong for users"
                yield Figure("reverse_port_errors", about, count, kinds, only_grows=True)

    def statistics(self) -> Iterator[Line]:
        """A line for each port that has had users."""
        for port in self.proxies:
            if port.total:
                yield (
                    _PORT_LINE,
                    {
                        "port": port.name,
                        "users": len(port.users),
                        "total": port.total,
                        "received": port.received,
                        "sent": port.sent,
                        "errors": port.errors.total(),
                    },
                )

    def _context(self, config: Config, settings: Agents) -> SSL.Context | None:
        tls = settings.tls
        local = all(is_local(place) for place in settings.listen)
        if tls.mode == "disable" or (tls.mode == "auto" and local):
            return None
        if tls.certificate is not None:
            self._certificate = tls.certificate
            return server_context(tls.certificate, tls.key or tls.certificate)
        certificate, key = own_certificate(
            state_directory(config.state, self._ground.environment),
            names=(socket.gethostname(),),
            clock=WallClock(self._ground.reactor),
        )
        self._certificate = certificate
        return server_context(certificate, key)

    def _pin(self) -> str:
        """The hash of the certificate that agents are shown; empty: there is none."""
        if not self._certificate:
            return ""
        first = load_certificates(self._certificate)[0]
        return pin_of(first.public_bytes(Encoding.DER))

    def _close(self) -> Deferred[Any]:
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])


class _Doors(Service):
    """Closes the listener at the stop, before what is behind it."""

    name = "agents' listener"

    def __init__(self, close: Callable[[], Deferred[Any]]) -> None:
        self._close = close

    def stopService(self) -> Deferred[Any]:
        """No more agents."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self._close()


def _shown(address: Any) -> str:
    """What Twisted says of a port's address, as C{HOST:PORT} or C{unix:PATH}."""
    host = getattr(address, "host", None)
    return spoken_address(address.name if host is None else (host, address.port))


def _now(work: Deferred[Any]) -> None:
    """
    What the store answers at once, at the start.

    @raise StartError: it does not
    """
    outcome: list[Any] = []
    work.addBoth(outcome.append)
    error = getattr(outcome[0], "value", None) if outcome else "the state store does not answer"
    if error is not None:
        raise StartError(str(error))
