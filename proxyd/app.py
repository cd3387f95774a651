"""
The whole daemon, put together: the one module that knows every room.
"""

from __future__ import annotations

import os
import random  # noqa: TID251 (for jitter)
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from proxyd import __version__
from proxyd.config.model import Config, PostgresTls
from proxyd.dial.direct import DirectDialer
from proxyd.errors import ConfigError, StartError
from proxyd.net.certificates import own_certificate, state_directory
from proxyd.net.descriptors import check, raise_limit
from proxyd.net.link import Link
from proxyd.net.resolver import Resolver
from proxyd.net.tls import server_context
from proxyd.postgres.directory import Directory
from proxyd.postgres.listener import PostgresListener
from proxyd.postgres.pools import Pools
from proxyd.postgres.server import Server
from proxyd.services.notify import Notify
from proxyd.services.ordered import OrderedService
from proxyd.services.signals import Signals
from proxyd.services.statistics import Statistics

_POOL_LINE = (
    "pool {pool}: total_connections={total_connections} idle_connections={idle_connections} "
    "in_use_connections={in_use_connections} waiting={waiting} clients={clients} "
    "acquire_count={acquire_count} acquire_timeouts={acquire_timeouts} "
    "max_lifetime_closed={max_lifetime_closed}"
)

LINGER = 5.0
"""Seconds that a peer has to read our last words before its socket is reset."""


def build(
    config: Config,
    reactor: Any,
    *,
    found: str,
    reload: Callable[[], Config],
    environment: Mapping[str, str] = os.environ,
) -> Daemon:
    """
    The daemon of a configuration, not started yet.

    @param found: the sentence that says where the configuration came from: the
        log's first line
    @param reload: reads the configuration again
    @raise StartError: a secret or a certificate can't be read
    """
    return Daemon(config, reactor, found, reload, environment)


class _LinkService(Service):
    """The link as a service."""

    name = "link"

    def __init__(self, link: Link) -> None:
        self._link = link

    def startService(self) -> None:
        """Carry bytes."""
        super().startService()  # type: ignore[no-untyped-call]
        self._link.start()

    def stopService(self) -> None:
        """Close what is left."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._link.stop()


class Daemon(OrderedService):
    """
    proxyd: everything it does, started top to bottom and stopped bottom to top.

    @ivar config: the configuration in force
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        found: str,
        reload: Callable[[], Config],
        environment: Mapping[str, str],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.config = self._started = config
        self._reactor = reactor
        self._found = found
        self._read_again = reload
        self._environment = environment
        self.link = Link(reactor, reactor, LINGER)
        self.resolver = Resolver(reactor)
        self.dialer = DirectDialer(reactor, self.resolver)
        self.pools = Pools(reactor, random.random)
        self.notify = Notify(reactor, environment)
        self.listener: PostgresListener | None = None
        self.resolver.setServiceParent(self)  # type: ignore[no-untyped-call]
        _LinkService(self.link).setServiceParent(self)  # type: ignore[no-untyped-call]
        servers = self._servers(config)
        self._first = servers
        self.pools.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.notify.setServiceParent(self)  # type: ignore[no-untyped-call]
        if config.postgres is not None:
            self.listener = PostgresListener(
                reactor,
                self.link,
                config.postgres,
                config.log,
                self._tls(config),
                Directory(servers),
                self.pools,
            )
            self.listener.setServiceParent(self)  # type: ignore[no-untyped-call]
        Statistics(reactor, [self._statistics]).setServiceParent(self)  # type: ignore[no-untyped-call]
        Signals(reactor, self.drain, self.reload).setServiceParent(self)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """
        Start, and say so.

        @raise StartError: a secret can't be read, or a listener can't be opened
        """
        self._log.info("proxyd {version}: {found}", version=__version__, found=self._found)
        for warning in self.config.warnings:
            self._log.warn("{warning}", warning=str(warning))
        self._check_limits()
        self.pools.serve(self._first)
        if self.listener is not None:
            self.listener.open()
        super().startService()
        self._reactor.callWhenRunning(self.notify.ready, self._status())

    def drain(self) -> Deferred[object]:
        """
        Let everybody finish, up to C{drain_timeout}, then end the rest.

        Fires when nobody is left.
        """
        self.notify.stopping("draining")
        done: Deferred[object] = Deferred()
        listener = self.listener
        if listener is None:
            done.callback(None)
            return done
        leaving: Deferred[Any] = listener.drain()
        leaving.addTimeout(self.config.drain_timeout, self._reactor, self._drained_too_long)
        leaving.addBoth(done.callback)
        return done

    def _drained_too_long(self, result: object, seconds: float) -> None:
        assert self.listener is not None
        left = len(list(self.listener.sessions))
        self._log.warn(
            "{left} sessions did not end within {seconds:g} s: they are ended now",
            left=left,
            seconds=seconds,
        )

    def reload(self) -> Deferred[object]:
        """
        Read the configuration and the certificates again.

        Connections that changed apply to new leases. A configuration that
        can't be used changes nothing, and the log says why. Never fails.
        """
        self.notify.reloading()
        try:
            config = self._read_again()
            servers = self._servers(config)
            tls = self._tls(config)
            self._say_what_waits(config)
            self.pools.serve(servers)
        except ConfigError as error:
            for problem in error.problems:
                self._log.error("not reloaded: {problem}", problem=str(problem))
        except StartError as error:
            self._log.error("not reloaded: {problem}", problem=str(error))
        else:
            self.config = config
            if self.listener is not None and config.postgres is not None:
                self.listener.adopt(config.postgres, config.log, tls, Directory(servers))
            self._log.info("configuration reloaded")
        self.notify.ready(self._status())
        done: Deferred[object] = Deferred()
        done.callback(None)
        return done

    def _say_what_waits(self, config: Config) -> None:
        """Name what has changed since the start and can't be changed by a reload."""
        waiting = [
            name
            for name, then, now in zip(
                _FIXED, _fixed_values(self._started), _fixed_values(config), strict=True
            )
            if then != now
        ]
        if waiting:
            self._log.warn("at the next start only: {keys}", keys=", ".join(waiting))

    def _servers(self, config: Config) -> dict[str, Server]:
        return {
            name: Server(connection, self.dialer, self.link, self._reactor)
            for name, connection in config.connections.items()
        }

    def _tls(self, config: Config) -> SSL.Context | None:
        """How TLS is spoken to PostgreSQL clients."""
        if config.postgres is None:
            return None
        tls: PostgresTls = config.postgres.tls
        if tls.mode == "disable":
            return None
        if tls.certificate is not None:
            certificate, key = tls.certificate, tls.key or tls.certificate
        else:
            certificate, key = own_certificate(
                state_directory(config.state, self._environment),
                names=(socket.gethostname(),),
                clock=self._reactor,
            )
        # A client without a certificate is let through the handshake, so that it can be told.
        return server_context(certificate, key, client_ca=tls.client_ca)

    def _check_limits(self) -> None:
        if self.config.postgres is None:
            return
        servers = sum(c.max_open_connections for c in self.config.connections.values())
        warning = check(raise_limit(), self.config.postgres.max_clients, servers)
        if warning is not None:
            self._log.warn("{warning}", warning=warning)

    def _status(self) -> str:
        if self.config.postgres is None:
            return "nothing to listen for"
        places = ", ".join(listener.text for listener in self.config.postgres.listen)
        return f"PostgreSQL at {places}"

    def _statistics(self) -> Iterator[tuple[str, Mapping[str, object]]]:
        for pool in self.pools:
            counters = pool.counters.as_dict()
            yield (
                _POOL_LINE,
                {
                    "pool": pool.name,
                    "total_connections": pool.total,
                    "idle_connections": pool.idle,
                    "in_use_connections": pool.in_use,
                    "waiting": pool.waiting,
                    "clients": pool.clients,
                    **counters,
                },
            )


_FIXED = ("postgres.listen", "postgres.auth_timeout", "log.level", "log.format", "state")
"""What a reload leaves as it is."""


def _fixed_values(config: Config) -> tuple[object, ...]:
    """The values of L{_FIXED}."""
    postgres = config.postgres
    return (
        postgres and postgres.listen,
        postgres and postgres.auth_timeout,
        config.log.level,
        config.log.format,
        config.state,
    )
