"""
What the words of a DSN mean for a login to its servers.

The words were checked when the configuration was loaded: here each becomes
what is done.
"""

from __future__ import annotations

import pwd
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxyd.config.dsn_words import PROTOCOL_VERSIONS
from proxyd.config.model import Dsn
from proxyd.errors import DialError, DialFailure
from proxyd.target import Target
from proxyd.wire.pg.login import DEFAULT

_SAID_BY_US = ("application_name", "client_encoding", "options")
_KEEPALIVE = {
    "keepalives_idle": socket.TCP_KEEPIDLE,
    "keepalives_interval": socket.TCP_KEEPINTVL,
    "keepalives_count": socket.TCP_KEEPCNT,
}
_WAYS = {
    "disable": ("plain",),
    "allow": ("plain?", "tls"),
    "prefer": ("tls?", "plain"),
}


@dataclass(frozen=True, slots=True)
class Manner:
    """
    How one logs in to the servers of a DSN.

    @param allow: the ways in which a server may ask for a password, see
        L{proxyd.wire.pg.login.ServerLogin}
    @param binding: channel binding: disable, prefer or require
    @param direct: TLS is begun without asking for it (PostgreSQL 17 and newer)
    @param names_server: whether the handshake says which server is meant (SNI)
    @param minor: the protocol's minor version that is asked for
    @param least_minor: the lowest that will do
    @param attributes: C{target_session_attrs}
    @param balance: whether hosts are tried in random order
    @param peer: the user that a server on a UNIX socket must run as; empty: any
    @param keepalive: options of a TCP socket, by number; None: no keepalive
    @param startup: what our own connections say of themselves
    """

    sslmode: str
    allow: frozenset[str] = DEFAULT
    binding: str = "prefer"
    direct: bool = False
    names_server: bool = True
    minor: int = 0
    least_minor: int = 0
    attributes: str = "any"
    balance: bool = False
    peer: str = ""
    keepalive: Mapping[int, int] | None = field(default_factory=dict)
    startup: Mapping[str, str] = field(default_factory=dict)

    def ways(self, host: Target) -> tuple[str, ...]:
        """
        The ways to try on one host, as libpq does for each sslmode.

        C{?}: the next one may be tried where this one fails.
        """
        if host.is_unix:
            return ("plain",)
        ways = _WAYS.get(self.sslmode, ("tls",))
        return ("tls",) if self.binding == "require" else ways

    def settle(self, sock: socket.socket, host: Target) -> None:
        """
        Put this manner on a connected socket.

        @raise DialError: DENIED: somebody else than C{peer} serves this UNIX socket
        """
        if host.is_unix:
            self._check_peer(sock, host)
            return
        if self.keepalive == {} or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return  # nothing was said, or it is one end of a pair that leads somewhere else
        if self.keepalive is None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
            return
        for option, value in self.keepalive.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def _check_peer(self, sock: socket.socket, host: Target) -> None:
        if not self.peer:
            return
        size = struct.calcsize("3i")
        _, uid, _ = struct.unpack(
            "3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = f"user {uid}"
        if name != self.peer:
            raise DialError(
                DialFailure.DENIED,
                f"server {host}: requirepeer={self.peer}, but {name} serves this socket",
            )


def manner_of(dsn: Dsn) -> Manner:
    """What the words of a DSN ask for."""
    said = dsn.parameters
    least = PROTOCOL_VERSIONS[said.get("min_protocol_version", "3.0")]
    # As libpq 18: who asks for more than 3.0 at least may as well have the latest.
    most = said.get("max_protocol_version", "latest" if least else "3.0")
    return Manner(
        sslmode=dsn.sslmode,
        allow=_allowed(said.get("require_auth")),
        binding=said.get("channel_binding", "prefer"),
        direct=said.get("sslnegotiation") == "direct",
        names_server=said.get("sslsni") != "0",
        minor=PROTOCOL_VERSIONS[most],
        least_minor=least,
        attributes=said.get("target_session_attrs", "any"),
        balance=said.get("load_balance_hosts") == "random",
        peer=said.get("requirepeer", ""),
        keepalive=None if said.get("keepalives") == "0" else _keepalive(said),
        startup=_startup(said),
    )


def _allowed(require_auth: str | None) -> frozenset[str]:
    """
    The ways of authentication that C{require_auth} lets a server ask for.

    Forbidding some (C{!md5}) leaves those that are allowed anyway: a password
    in clear is given only where C{password} is said.
    """
    if require_auth is None:
        return DEFAULT
    words = require_auth.split(",")
    if words[0].startswith("!"):
        return DEFAULT - {word.removeprefix("!") for word in words}
    return frozenset(words)


def _keepalive(said: Mapping[str, str]) -> dict[int, int]:
    """What the DSN says of keepalive; 0 is what is done anyway."""
    return {
        option: int(said[name]) for name, option in _KEEPALIVE.items() if int(said.get(name, "0"))
    }


def _startup(said: Mapping[str, str]) -> dict[str, str]:
    startup = {name: said[name] for name in _SAID_BY_US if name in said}
    if "fallback_application_name" in said:
        startup.setdefault("application_name", said["fallback_application_name"])
    return startup
