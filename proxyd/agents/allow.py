"""
What an agent will dial, whatever the server says: its own list.

Asked once for each connection, at the dial, about every address that the name
stands for; what was looked at is what is dialled.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxyd.rules.hosts import Address, BadHost, delicate, delicate_name, host_of
from proxyd.rules.patterns import Pattern, pattern

_ALWAYS_FINE = frozenset({"loopback", "this host", "this host (RFC 1122)", "a name for loopback"})


class AllowList:
    """
    Which targets an agent dials.

    With no pattern: anything but link-local, multicast and cloud metadata
    addresses. With patterns: what one of them matches, and nothing else.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        """
        @param patterns: C{HOST:PORT}, globs and CIDR blocks; see L{pattern}. C{HOST:*} is
            each port, as C{HOST} is
        @raise BadPattern: one is none
        """
        self._patterns: tuple[Pattern, ...] = tuple(
            pattern(text.removesuffix(":*")) for text in patterns
        )

    def __str__(self) -> str:
        if not self._patterns:
            return "anything but link-local and metadata addresses"
        return ", ".join(one.text for one in self._patterns)

    def allowed(self, host: str, port: int, addresses: Iterable[Address]) -> list[Address]:
        """
        Those of a target's addresses that may be dialled; empty: none may.

        @param addresses: what the host stands for
        """
        try:
            name = host_of(host).name
        except BadHost:
            return []
        if not self._patterns:
            if name and delicate_name(name) not in ("", *_ALWAYS_FINE):
                return []
            return [one for one in addresses if delicate(one) in ("", *_ALWAYS_FINE)]
        by_port = [one for one in self._patterns if _port_fits(one, port)]
        if name and any(one.takes_name(name) or one.everything for one in by_port):
            return list(addresses)
        return [
            address
            for address in addresses
            if any(
                one.takes(address) for one in by_port if one.network is not None or one.everything
            )
        ]


def _port_fits(one: Pattern, port: int) -> bool:
    return not one.ports or any(low <= port <= high for low, high in one.ports)
