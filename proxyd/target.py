"""
Whom a connection is for, where it is to go, and what an examination finds.

Plain values that every floor may hold; how a target is reached is the
dialer's business.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where a connection is to go.

    @param host: a host name, an IP address in text, or (starting with C{/})
        the path of a UNIX socket
    @param port: the TCP port; not looked at for a UNIX socket
    @param address: the IP address that the host is taken to have, in text;
        empty: it is looked up
    """

    host: str
    port: int
    address: str = ""

    @property
    def is_unix(self) -> bool:
        """Whether this is the path of a UNIX socket."""
        return self.host.startswith("/")

    @property
    def dialled(self) -> Target:
        """Where to go without looking the host up, if that was said; else the target itself."""
        return Target(self.address, self.port) if self.address else self

    def __str__(self) -> str:
        if self.is_unix:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Principal:
    """
    Who asks: a client's name, and the address it came from.

    @param user: the name it logged in with; empty before a login
    @param source: its address as text, or C{unix} for a local socket
    """

    user: str
    source: str


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What an examination found out about one thing.

    @param check: what was looked at
    @param good: True, False, or None where it could not be looked at
    @param what: what was found, in one line
    @param remedy: what to do about it; empty where nothing need be done
    """

    check: str
    good: bool | None
    what: str
    remedy: str = ""
