"""
What a rule matches hosts with: networks, names and globs of names, and ports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from proxyd.rules.hosts import Address, Network

Ports = tuple[tuple[int, int], ...]
"""Ranges of ports, both ends included; none: every port."""

_GLOB = re.compile(r"[a-z0-9_*?-]+(?:\.[a-z0-9_*?-]+)*", re.ASCII)
_LIKE_ADDRESS = re.compile(r"[0-9*?]+(?:\.[0-9*?]+)*", re.ASCII)


class BadPattern(ValueError):
    """A text is no pattern of a rule; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """
    One text that a rule matches hosts with.

    @param text: as it stood in the configuration
    @param network: the addresses it means; None: names
    @param name: a name, or a glob of names; C{*} is every host, addresses too
    @param ports: what it says about ports itself
    @param masked: whether the text had host bits, which mean nothing
    """

    text: str
    network: Network | None = None
    name: str = ""
    ports: Ports = ()
    masked: bool = False

    @property
    def everything(self) -> bool:
        """Whether it matches every host."""
        return self.name == "*"

    def takes(self, address: Address) -> bool:
        """Whether an address is one of its own."""
        network = self.network
        if network is None:
            return self.everything
        return address.version == network.version and address in network

    def takes_name(self, name: str) -> bool:
        """Whether a name is one of its own."""
        return bool(self.name) and glob(self.name).fullmatch(name) is not None

    def covers(self, other: Pattern) -> bool:
        """Whether it surely takes all that another does, ports aside."""
        if self.everything:
            return True
        if self.network is not None:
            own, theirs = self.network, other.network
            return (
                theirs is not None and own.version == theirs.version and theirs.subnet_of(own)  # type: ignore[arg-type]  # of one version
            )
        if other.network is not None or "?" in self.name:
            return False
        return glob(self.name).fullmatch(other.name) is not None


def pattern(text: str) -> Pattern:
    """
    C{10.0.0.0/8}, C{10.1.2.3}, C{fd00::/8}, C{db.internal}, C{*.prod.internal},
    C{*}; each with C{:PORT} or C{:FIRST-LAST} behind it, IPv6 then in brackets.

    @raise BadPattern: it is none of them
    """
    host, ports = _split(text)
    network = _network(host)
    if network is not None:
        return Pattern(text, network[0], "", ports, network[1])
    if "/" in host:
        raise BadPattern("is not a CIDR block (10.0.0.0/8)")
    name = host.lower().removesuffix(".")
    if name != "*" and _LIKE_ADDRESS.fullmatch(name):
        raise BadPattern("is no address; a range of addresses is a CIDR block (10.0.0.0/8)")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            raise BadPattern("is not a host name") from None
    if not _GLOB.fullmatch(name):
        raise BadPattern("is not a host name, a glob (*.internal) or a CIDR block (10.0.0.0/8)")
    return Pattern(text, None, name, ports)


def port_range(text: str) -> tuple[int, int]:
    """
    C{443} or C{8000-8100}.

    @raise BadPattern: it is neither
    """
    first, dash, last = text.partition("-")
    if not all(re.fullmatch(r"[0-9]{1,5}", part, re.ASCII) for part in (first, last or "1")):
        raise BadPattern("is not a port or a range of ports (8000-8100)")
    if dash and not last:
        raise BadPattern("is not a range of ports (8000-8100)")
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= 65535:
        raise BadPattern("is not a port from 1 to 65535, or a range of them")
    return low, high


def within(port: int, ports: Ports) -> bool:
    """Whether a port is in one of the ranges."""
    return not ports or any(low <= port <= high for low, high in ports)


def both(one: Ports, other: Ports) -> Ports:
    """The ports that are in both."""
    if not one or not other:
        return one or other
    return tuple(
        (max(a, c), min(b, d)) for a, b in one for c, d in other if max(a, c) <= min(b, d)
    ) or ((0, 0),)


def contains(outer: Ports, inner: Ports) -> bool:
    """Whether all of the inner ports are in the outer."""
    if not outer:
        return True
    return bool(inner) and all(any(a <= low and high <= b for a, b in outer) for low, high in inner)


@lru_cache(maxsize=1024)
def glob(text: str) -> re.Pattern[str]:
    """The expression for a glob: C{*} (any text, dots too) and C{?} (one character) mean."""
    return re.compile(
        "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in text), re.DOTALL
    )


def _network(text: str) -> tuple[Network, bool] | None:
    """A network, and whether host bits had to be masked; mapped forms as IPv4."""
    try:
        found = ip_network(text, strict=False)
        bits = ip_address(text.partition("/")[0])
    except ValueError:
        return None
    masked = bits != found.network_address
    if isinstance(found, IPv6Network) and found.prefixlen >= 96:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, found.prefixlen - 96)), masked
    return found, masked


def _split(text: str) -> tuple[str, Ports]:
    """A pattern's host, and its ports."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadPattern("is not [IPV6-ADDRESS]:PORT")
        return host, (port_range(rest[1:]),) if rest else ()
    host, colon, rest = text.rpartition(":")
    if colon and ":" not in host:
        return host, (port_range(rest),)
    return text, ()
