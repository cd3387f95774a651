"""
All pools of the process, by what they are pools of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from proxyd.config.model import Connection
from proxyd.interfaces import ITokenSource
from proxyd.postgres.counters import Counters
from proxyd.postgres.pool import Pool
from proxyd.postgres.server import Account, Server

_log = Logger()

_TICK = 1.0

SourceOf = Callable[[Connection], ITokenSource | None]


def _no_source(connection: Connection) -> ITokenSource | None:
    return None


class Pools(Service):
    """
    One pool for each (connection, database), made when it is first needed.

    Pools of connections whose DSN names a database are kept warm from the
    start; others as long as a client is there, and a while longer.
    """

    def __init__(self, clock: IReactorTime, random: Callable[[], float]) -> None:
        """@param random: a number from 0 up to 1, for jitter"""
        self._clock = clock
        self._random = random
        self._pools: dict[tuple[str, str], Pool] = {}
        self._accounts: dict[str, Account] = {}
        self._servers: dict[str, Server] = {}
        self._retired: dict[str, Counters] = {}
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock

    def __iter__(self) -> Iterator[Pool]:
        return iter(list(self._pools.values()))

    def serve(self, servers: Mapping[str, Server], accounts: Mapping[str, Account]) -> None:
        """
        Use these servers from now on.

        A pool whose connection is unchanged stays as it is. Where it changed,
        new leases come from a new pool, and the old one closes as its leases
        end.

        @param accounts: the service users of the same names: L{accounts_of}
        """
        self._accounts = dict(accounts)
        self._servers = dict(servers)
        for name in self._retired.keys() - servers.keys():
            del self._retired[name]
        for key, pool in list(self._pools.items()):
            server = servers.get(key[0])
            if server is not None and server.connection == pool.settings:
                pool.renew(server, accounts[key[0]])
                continue
            self._retire(key)
            heir = None
            if server is not None:
                heir = self.get(server, server.connection.dsn.database or key[1])
            pool.close(heir)
        for server in servers.values():
            if server.connection.dsn.database is not None:
                self.get(server, server.connection.dsn.database)

    @property
    def served(self) -> Mapping[str, tuple[Server, Account]]:
        """The servers in use with their service users, by the connection's name."""
        return {name: (server, self._accounts[name]) for name, server in self._servers.items()}

    def get(self, server: Server, database: str) -> Pool:
        """The pool of a connection at a database."""
        key = (server.connection.name, database)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(
                server,
                self._accounts[server.connection.name],
                database,
                self._clock,
                self._random,
                keep_warm=server.connection.dsn.database is not None,
            )
        return pool

    def reopen(self) -> None:
        """
        Begin anew with every pool.

        New leases come from new server connections; the old ones are closed
        as their leases end.
        """
        for key, pool in list(self._pools.items()):
            self._retire(key)
            pool.close(self.get(pool.server, key[1]))

    def totals(self) -> dict[str, Counters]:
        """What was done so far for each connection, by pools that are gone, too."""
        found: dict[str, Counters] = {}
        for name, counters in self._retired.items():
            found.setdefault(name, Counters()).add(counters)
        for (name, _), pool in self._pools.items():
            found.setdefault(name, Counters()).add(pool.counters)
        return found

    def _retire(self, key: tuple[str, str]) -> None:
        """A pool is one no more; what it counted stays."""
        pool = self._pools.pop(key)
        self._retired.setdefault(key[0], Counters()).add(pool.counters)

    def startService(self) -> None:
        """Begin to open, renew and close."""
        super().startService()  # type: ignore[no-untyped-call]
        self._ticking.start(_TICK).addErrback(
            lambda failure: _log.failure("the pools' clock stopped", failure)
        )

    def stopService(self) -> None:
        """Close all connections: by now no client uses one."""
        if self._ticking.running:
            self._ticking.stop()
        for pool in self:
            pool.abort() if pool.in_use else pool.close()
        self._pools.clear()
        super().stopService()  # type: ignore[no-untyped-call]

    def _tick(self) -> None:
        now = self._clock.seconds()
        for key, pool in list(self._pools.items()):
            try:
                pool.tick(now)
            except Exception:
                _log.failure("pool {pool}", pool=pool.name)
            if (
                not pool.keep_warm
                and not pool.total
                and pool.unused_for(now) > pool.settings.connection_max_idle_time
            ):
                self._retire(key)
                pool.close()


def accounts_of(
    servers: Mapping[str, Server], source_of: SourceOf = _no_source
) -> dict[str, Account]:
    """
    The service users of all servers, by the connection's name.

    @param source_of: gives the source of a connection's password, if it has one
    @raise StartError: a password can't be read
    """
    return {
        name: account_of(server.connection, source_of(server.connection))
        for name, server in servers.items()
    }


def account_of(connection: Connection, source: ITokenSource | None = None) -> Account:
    """The service user of a connection, with its password or the source of it."""
    password = connection.password
    return Account(
        connection.dsn.user or "",
        None if password is None else password.read().encode("utf-8", "surrogateescape"),
        source=source,
    )
