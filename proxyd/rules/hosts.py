"""
A target's host in one form, whatever way it was written, and which hosts are delicate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import inet_aton

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)


class BadHost(ValueError):
    """A text is neither an address nor a name; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Host:
    """
    A target's host, in one form for all the ways to write it.

    @param name: in lower case, IDNA-encoded, without a dot at its end; empty
        where the host is an address
    @param address: a mapped IPv4 address (C{::ffff:10.0.0.1}) as IPv4
    """

    name: str
    address: Address | None = None

    def __str__(self) -> str:
        return self.name or str(self.address)


@lru_cache(maxsize=4096)
def host_of(text: str) -> Host:
    """
    The host that a client named.

    What the system's resolver would take for an address is one here, too
    (C{127.1}, C{0x7f000001}: inet_aton(3)), so that no far side finds in a
    name what was not seen in it.

    @raise BadHost: it can be neither address nor name
    """
    bracketed = text.startswith("[") and text.endswith("]")
    address = address_of(text[1:-1] if bracketed else text)
    if address is not None:
        return Host("", address)
    try:
        name = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        raise BadHost("is not a host name") from None
    name = name.lower().removesuffix(".")
    if _NUMERIC.fullmatch(name.rpartition(".")[2]):
        try:
            return Host("", IPv4Address(inet_aton(name)))
        except (OSError, ValueError):
            raise BadHost("is neither an address nor a host name") from None
    if len(name) > 255 or not _NAME.fullmatch(name):
        raise BadHost("is not a host name")
    return Host(name)


def plain(address: Address) -> Address:
    """An address without the wrapping of C{::ffff:0:0/96}."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that a NAT64, 6to4 or IPv4-compatible address leads to."""
    if not isinstance(address, IPv6Address):
        return None
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


@lru_cache(maxsize=4096)
def delicate(address: Address) -> str:
    """What an address is that is denied unless a route names it; empty: nothing."""
    for one in (address, embedded(address)):
        if one is None:
            continue
        for block, kind in DELICATE:
            if one.version == block.version and one in block:
                return kind
    return ""


def delicate_name(name: str) -> str:
    """What a name is that is denied unless a route names it, wherever it is looked up."""
    if name == "localhost" or name.endswith((".localhost", ".localdomain")):
        return "a name for loopback"
    return "a name for cloud metadata" if name in _METADATA_NAMES else ""


def address_of(text: str) -> Address | None:
    """The address that a text is, or None; a mapped one as IPv4."""
    try:
        return plain(ip_address(text))
    except ValueError:
        return None


_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")

_METADATA_NAMES = frozenset(
    ("metadata.google.internal", "metadata", "instance-data", "instance-data.ec2.internal")
)

DELICATE: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(block), kind)
    for block, kind in (
        ("127.0.0.0/8", "loopback"),
        ("::1/128", "loopback"),
        ("0.0.0.0/8", "this host (RFC 1122)"),
        ("::/128", "this host"),
        ("169.254.169.254/32", "a cloud metadata address"),
        ("169.254.170.2/32", "a cloud metadata address"),
        ("fd00:ec2::254/128", "a cloud metadata address"),
        ("100.100.100.200/32", "a cloud metadata address"),
        ("168.63.129.16/32", "a cloud metadata address"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("255.255.255.255/32", "broadcast"),
    )
)
"""What is denied unless a route names it, the narrower before the wider."""
