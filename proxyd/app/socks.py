"""SOCKS5 in the daemon: the listener, and what is counted of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred

from proxyd.app.room import Ground, Room
from proxyd.app.ways import Ways
from proxyd.config.model import Config
from proxyd.config.ways import Socks5
from proxyd.figures import Figure
from proxyd.net.listening import spoken_address
from proxyd.net.tls import server_context
from proxyd.socks.accounts import Accounts
from proxyd.socks.listener import SocksListener
from proxyd.socks.session_source import SocksSessions, listener_figures


class Socks(Room):
    """The SOCKS5 listener of a configuration that has one."""

    def __init__(self, ground: Ground, settings: Socks5, ways: Ways) -> None:
        """@raise StartError: a password or a certificate can't be read"""
        self.listener = SocksListener(
            ground.reactor,
            ground.link,
            settings,
            Accounts(settings.accounts),
            _tls(settings),
            ways.router,
            ground.sessions.next_number,
        )
        self.doors = (self.listener,)
        ground.sessions.add(SocksSessions(self.listener))

    def prepare(self, config: Config) -> Callable[[], None]:
        """Accounts and certificates are read again, for the clients that come from now on."""
        settings = config.socks5
        if settings is None:
            return lambda: None
        accounts, tls = Accounts(settings.accounts), _tls(settings)
        return lambda: self.listener.adopt(settings, accounts, tls)

    def open(self) -> None:
        """Open the listening sockets."""
        self.listener.open()

    def reopen(self) -> Deferred[None]:
        """The listening sockets are opened anew."""
        return Deferred.fromCoroutine(self.listener.reopen())

    def drain(self) -> Deferred[object]:
        """Nobody new, and those that are here may finish."""
        leaving: Deferred[Any] = self.listener.drain()
        return leaving

    def left(self) -> int:
        """Connections that are open."""
        return len(list(self.listener.sessions))

    def fixed(self, config: Config) -> Mapping[str, object]:
        """Where it listens, and its deadlines."""
        socks = config.socks5
        return {
            "socks5.listen": socks and socks.listen,
            "socks5.auth_timeout": socks and socks.auth_timeout,
            "socks5.connect_timeout": socks and socks.connect_timeout,
        }

    def descriptors(self, config: Config) -> tuple[int, int]:
        """Each client has a target."""
        return (0, 0) if config.socks5 is None else (config.socks5.max_clients,) * 2

    def places(self) -> Sequence[str]:
        """Where SOCKS5 clients come."""
        places = ", ".join(place.text for place in self.listener.settings.listen)
        return (f"SOCKS5 at {places}",)

    def addresses(self) -> Sequence[tuple[str, str]]:
        """Where SOCKS5 clients come."""
        return [("socks5", spoken_address(one)) for one in self.listener.addresses]

    def figures(self) -> Iterator[Figure]:
        """What the listener counts."""
        yield from listener_figures(self.listener)


def _tls(settings: Socks5) -> SSL.Context | None:
    """How TLS is spoken to SOCKS5 clients."""
    if settings.tls is None:
        return None
    return server_context(settings.tls.certificate, settings.tls.key)
