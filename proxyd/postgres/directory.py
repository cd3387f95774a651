"""
The databases that clients may ask for, and what stands behind each name.

Look-up: a connection's exact name, then C{default}; a name C{db_NUMBER} belongs
to registered databases and never goes to C{default}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address

from proxyd.config.model import Connection, Network
from proxyd.postgres.server import Server

_REGISTERED = re.compile(r"db_[0-9]+")

_USUAL_AUTH = ("backend",)
_TOKEN_AUTH = ("token",)

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Place:
    """
    What a client's database name stands for.

    @param server: the server behind it
    @param database: the database's name there
    @param served: whether the connection serves this name; if not, the client
        learns it after a good login only
    """

    server: Server
    database: str
    served: bool

    @property
    def connection(self) -> Connection:
        """The connection's settings."""
        return self.server.connection


class Directory:
    """The connections of a configuration, by the names that clients use."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        """@param servers: by the connection's name"""
        self._servers = dict(servers)
        self._places = {name: _place(server, name) for name, server in servers.items()}
        auths = {one.connection.auth for name, one in servers.items() if not is_registered(name)}
        self._auth_of_none = auths.pop() if len(auths) == 1 else _USUAL_AUTH

    @property
    def servers(self) -> Mapping[str, Server]:
        """The servers by the connection's name."""
        return self._servers

    def find(self, name: str) -> Place | None:
        """What stands behind the name that a client asks for; None: nothing."""
        place = self._places.get(name)
        if place is not None:
            return place
        server = self._servers.get(name)
        if server is None and _REGISTERED.fullmatch(name) is None:
            server = self._servers.get("default")
        return None if server is None else _place(server, name)

    def auth_for(self, place: Place | None, name: str = "") -> tuple[str, ...]:
        """
        How clients of a place log in.

        For a name that stands for nothing it is what all connections have in
        common, else by a password; for one of the form that registered
        databases have, by a token, as with all of those: so the question tells
        as little as it can of which names there are.
        """
        if place is not None:
            return place.connection.auth
        return _TOKEN_AUTH if is_registered(name) else self._auth_of_none

    def lets_in(self, place: Place | None, address: Address | None) -> bool:
        """
        Whether clients of this address may come at all.

        For a name that stands for nothing the answer is no where any
        connection would say no: so it tells nothing of which names there are.

        @param address: None for a UNIX socket, which every connection lets in
        """
        if address is None:
            return True
        if place is not None:
            return _inside(address, place.connection.allow)
        return all(_inside(address, server.connection.allow) for server in self._servers.values())


def _place(server: Server, name: str) -> Place:
    """What a connection makes of a name."""
    connection = server.connection
    fixed = connection.dsn.database
    served = connection.databases is None or _matches(name, connection.databases)
    return Place(server, name if fixed is None else fixed, served)


def is_registered(name: str) -> bool:
    """Whether a name has the form that only registered databases have."""
    return _REGISTERED.fullmatch(name) is not None


def lets_user_in(connection: Connection, user: str) -> bool:
    """Whether a connection takes clients of this name."""
    return connection.users is None or _matches(user, connection.users)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _inside(address: Address, networks: tuple[Network, ...] | None) -> bool:
    return networks is None or any(address in network for network in networks)
