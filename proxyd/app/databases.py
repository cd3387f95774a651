"""PostgreSQL in the daemon: the servers, their pools, and the listener before them."""

from __future__ import annotations

import random  # noqa: TID251 (for jitter)
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from proxyd.app.room import Ground, Line, Room
from proxyd.app.state import State
from proxyd.app.ways import Ways
from proxyd.config import values
from proxyd.config.model import Config, Connection, Postgres
from proxyd.config.token_settings import CANCEL_ELSEWHERE, NODE_LIFE
from proxyd.errors import StartError
from proxyd.figures import Figure
from proxyd.interfaces import ITokenSource
from proxyd.net.certificates import own_certificate, state_directory
from proxyd.net.clock import WallClock
from proxyd.net.listening import spoken_address
from proxyd.net.threads import Threads
from proxyd.net.tls import server_context
from proxyd.postgres.directory import Directory
from proxyd.postgres.doctor import Doctor
from proxyd.postgres.listener import PostgresListener
from proxyd.postgres.nodes import Nodes
from proxyd.postgres.pools import Pools, account_of, accounts_of
from proxyd.postgres.server import Account, Server
from proxyd.postgres.session_source import PostgresSessions, listener_figures, pool_figures
from proxyd.target import Target

if TYPE_CHECKING:
    from proxyd.dial.aws.sources import AwsSources
    from proxyd.web.route import Resource

_log = Logger()

_AWS_CALLS = 4
"""Calls to AWS at a time, for each profile."""

_POOL_LINE = (
    "pool {pool}: total_connections={total_connections} idle_connections={idle_connections} "
    "in_use_connections={in_use_connections} waiting={waiting} clients={clients} "
    "acquire_count={acquire_count} acquire_timeouts={acquire_timeouts} "
    "max_lifetime_closed={max_lifetime_closed}"
)
_TOKEN_LINE = (
    "pool {pool}: tokens_made={tokens_made} token_age={token_age:.1f} oldest={oldest:.0f} "
    "leased_over_lifetime={leased_over_lifetime}"
)


class Databases(Room):
    """
    The databases behind proxyd, and the clients who come for them.

    @ivar pools: of all connections
    @ivar listener: None where nothing asks for one
    """

    def __init__(self, ground: Ground, config: Config, state: State, ways: Ways) -> None:
        """
        @param ways: lead to the servers
        @param state: knows the tokens and the registered databases
        @raise StartError: a certificate can't be read
        """
        self._ground = ground
        self._state = state
        self._ways = ways
        self._config = config
        self._watching = False
        self._served: tuple[dict[str, Server], dict[str, Account]] = ({}, {})
        self._kept: dict[str, Server] = {}
        self._opened = False
        state.deny_by(ways.denies)
        self.pools = Pools(ground.reactor, random.random)
        self._aws = MultiService()  # type: ignore[no-untyped-call]
        self._sources: AwsSources | None = None
        self.inner = (self._aws, self.pools)
        self.listener: PostgresListener | None = None
        if config.postgres is not None:
            self.listener = PostgresListener(
                ground.reactor,
                ground.link,
                config.postgres,
                config.log,
                self._tls(config),
                Directory({}),
                self.pools,
                state.tokens,
                ground.sessions.next_number,
            )
            state.announce(self._public)
            self.doors = (self.listener,)
            if state.store.shared:
                self.listener.nodes = self._nodes(self.listener)
                self.doors = (self.listener.nodes, self.listener)
            ground.sessions.add(PostgresSessions(self.listener))

    def prepare(self, config: Config) -> Callable[[], None]:
        """Changed connections apply to new leases; certificates are read again."""
        configured = self._configured(config)
        accounts = accounts_of(configured, self._source_of)
        tls = self._tls(config)

        def adopt() -> None:
            self._config = config
            self._served, self._kept = (configured, accounts), {}
            self._follow_registered()
            servers = self._serve()
            if self.listener is not None and config.postgres is not None:
                self.listener.adopt(config.postgres, config.log, tls, Directory(servers))
            self._state.registered.adopt(config.pool_size)
            self._open_on_demand()

        return adopt

    def _follow_registered(self) -> None:
        """Registered databases come and go while proxyd runs."""
        if not self._watching:
            self._watching = True
            self._state.registered.watch(self._registered)

    def _registered(self) -> None:
        """Serve the registered databases that there are now; what is in use goes on."""
        servers = self._serve()
        if self.listener is None:
            return
        self._open_on_demand()
        self.listener.directory = Directory(servers)
        for session in self.listener.sessions:
            if session.pool.settings.name not in servers:
                session.revoke("its database was removed")

    def _nodes(self, listener: PostgresListener) -> Nodes:
        """The others that share our store."""
        return Nodes(
            self._ground.reactor,
            self._state.store,
            listener.keys,
            self._ground.direct,
            self._node_address,
            every=NODE_LIFE,
            patience=CANCEL_ELSEWHERE,
        )

    def _node_address(self) -> str:
        """C{HOST:PORT} where other nodes reach our listener."""
        postgres = self._config.postgres
        if postgres is not None and postgres.node is not None:
            return postgres.node
        return public_place(None, [] if self.listener is None else self.listener.addresses)

    def _public(self) -> str:
        """C{HOST:PORT} for connection strings."""
        postgres = self._config.postgres
        addresses = [] if self.listener is None else self.listener.addresses
        return public_place(postgres, addresses)

    def open(self) -> None:
        """Open the PostgreSQL listener's sockets, if anything asks for them."""
        if self._wanted and self.listener is not None:
            self.listener.open()
            self._opened = True

    @property
    def _wanted(self) -> bool:
        """Whether the configuration asks for the listener, or a registered database does."""
        listener = self.listener
        if listener is None:
            return False
        return not listener.settings.on_demand or bool(self._state.registered.connections)

    def _open_on_demand(self) -> None:
        """Where nothing asked for PostgreSQL before, let its clients in when something does."""
        listener = self.listener
        if listener is not None and listener.ready and self._wanted and not self._opened:
            try:
                listener.open()
                self._opened = True
            except StartError as error:
                _log.error("{problem}", problem=str(error))

    def reopen(self) -> Deferred[None]:
        """New server connections for new leases; the listening sockets are opened anew."""
        self.pools.reopen()
        if self.listener is None:
            return succeed(None)
        return Deferred.fromCoroutine(self.listener.reopen())

    def drain(self) -> Deferred[object]:
        """Sessions end between two transactions, and new clients are told 57P03."""
        if self.listener is None:
            return succeed(None)
        leaving: Deferred[Any] = self.listener.drain()
        return leaving

    def left(self) -> int:
        """Clients that are logged in."""
        return 0 if self.listener is None else len(list(self.listener.sessions))

    def fixed(self, config: Config) -> Mapping[str, object]:
        """Where it listens, and how long a login may take."""
        postgres = config.postgres
        return {
            "postgres.listen": postgres and postgres.listen,
            "postgres.auth_timeout": postgres and postgres.auth_timeout,
        }

    def descriptors(self, config: Config) -> tuple[int, int]:
        """As many clients as C{max_clients}, and all pools full."""
        if config.postgres is None:
            return (0, 0)
        servers = sum(one.max_open_connections for one in config.connections.values())
        return (config.postgres.max_clients, servers)

    def places(self) -> Sequence[str]:
        """Where PostgreSQL clients come."""
        if self.listener is None or not self._wanted:
            return ()
        places = ", ".join(place.text for place in self.listener.settings.listen)
        return (f"PostgreSQL at {places}",)

    def addresses(self) -> Sequence[tuple[str, str]]:
        """Where PostgreSQL clients come."""
        if self.listener is None:
            return ()
        return [("postgres", spoken_address(one)) for one in self.listener.addresses]

    def resources(self) -> Sequence[Resource]:
        """The call that examines the connections."""
        from proxyd.web.resources.doctor import DoctorResource

        return (DoctorResource(Doctor(self.pools, self._ground.reactor).examine),)

    def figures(self) -> Iterator[Figure]:
        """What the pools and the listener count."""
        yield from pool_figures(self.pools)
        if self.listener is not None:
            yield from listener_figures(self.listener)

    def statistics(self) -> Iterator[Line]:
        """A line for each pool, and one more where it logs in by tokens."""
        for pool in self.pools:
            yield (
                _POOL_LINE,
                {
                    "pool": pool.name,
                    "total_connections": pool.total,
                    "idle_connections": pool.idle,
                    "in_use_connections": pool.in_use,
                    "waiting": pool.waiting,
                    "clients": pool.clients,
                    **pool.counters.as_dict(),
                },
            )
            if pool.settings.aws_iam_auth is not None:
                yield (
                    _TOKEN_LINE,
                    {
                        "pool": pool.name,
                        "tokens_made": pool.tokens_made,
                        "token_age": pool.token_age,
                        "oldest": pool.oldest,
                        "leased_over_lifetime": pool.leased_over_lifetime,
                    },
                )

    def _source_of(self, connection: Connection) -> ITokenSource | None:
        if connection.aws_iam_auth is None and connection.aws_secret is None:
            return None
        if self._sources is None:
            # Costs a third of a second to import.
            from proxyd.dial.aws.sources import AwsSources

            self._sources = AwsSources(self._aws_threads, self._ground.reactor)
        return self._sources.source_of(connection)

    def _aws_threads(self, profile: str) -> Threads:
        """Threads of a profile's own."""
        threads = Threads(self._ground.reactor, f"aws-{profile}", _AWS_CALLS)
        threads.setServiceParent(self._aws)  # type: ignore[no-untyped-call]
        return threads

    def _configured(self, config: Config) -> dict[str, Server]:
        """The servers of the configuration."""
        ground = self._ground
        return {
            name: Server(
                connection, self._ways.dialer_for(connection.via), ground.link, ground.reactor
            )
            for name, connection in config.connections.items()
        }

    def _serve(self) -> dict[str, Server]:
        """
        Let the pools serve the configuration's servers, and the registered ones that there are.

        One that is unchanged stays as it is: a server that is to prove itself costs more than
        20 ms to make, as all the system's CAs are read for it.
        """
        ground, kept = self._ground, self._kept
        servers, accounts = dict(self._served[0]), dict(self._served[1])
        self._kept = {}
        for name, connection in self._state.registered.connections.items():
            server = kept.get(name)
            try:
                if server is None or server.connection != connection:
                    # Strangers name these: they go by the rules, to nothing that is denied.
                    server = Server(connection, self._ways.router, ground.link, ground.reactor)
                accounts[name] = account_of(connection)
            except StartError as error:
                _log.error("{name} is not served: {problem}", name=name, problem=str(error))
                continue
            servers[name] = self._kept[name] = server
        self.pools.serve(servers, accounts)
        return servers

    def _tls(self, config: Config) -> SSL.Context | None:
        """How TLS is spoken to PostgreSQL clients."""
        if config.postgres is None or config.postgres.tls.mode == "disable":
            return None
        tls = config.postgres.tls
        if tls.certificate is not None:
            certificate, key = tls.certificate, tls.key or tls.certificate
        else:
            certificate, key = own_certificate(
                state_directory(config.state, self._ground.environment),
                names=(socket.gethostname(),),
                clock=WallClock(self._ground.reactor),
            )
        # A client without a certificate is let through the handshake, so that it can be told.
        return server_context(certificate, key, client_ca=tls.client_ca, client_crl=tls.client_crl)


def public_place(postgres: Postgres | None, addresses: Sequence[object]) -> str:
    """
    C{HOST:PORT} that connection strings name.

    @param addresses: where the listener listens, as C{getsockname} says it
    """
    places = [one for one in addresses if isinstance(one, tuple)]
    host, port = (str(places[0][0]), int(places[0][1])) if places else ("127.0.0.1", 6432)
    public = None if postgres is None else postgres.public
    if public is not None:
        try:
            host, port = values.host_and_port(public)
        except values.BadValue:
            host = public.strip("[]")  # PROXY_HOST, where the port was not known at load
    elif host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return str(Target(host, port))
