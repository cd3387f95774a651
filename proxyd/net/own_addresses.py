"""
The addresses of this machine, as the kernel has them now.

Source: rtnetlink(7), C{RTM_GETADDR}.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from twisted.internet.interfaces import IReactorTime

FRESH = 30.0
"""Seconds for which an answer is used again."""

_REQUEST, _DUMP = 1, 0x300
_GET, _NEW, _DONE, _ERROR = 22, 20, 3, 2
_ADDRESS, _LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=BBBBi")
_ATTRIBUTE = struct.Struct("=HH")


def read_addresses() -> frozenset[IPv4Address | IPv6Address]:
    """
    Every address of every interface. It does not wait: the kernel has them at hand.

    @raise OSError: there is no such socket here
    """
    found: set[IPv4Address | IPv6Address] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(1.0)
        body = _MESSAGE.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        head = _HEADER.pack(_HEADER.size + len(body), _GET, _REQUEST | _DUMP, 1, 0)
        kernel.send(head + body)
        while True:
            data = kernel.recv(1 << 16)
            while len(data) >= _HEADER.size:
                length, kind, *_ = _HEADER.unpack_from(data)
                if kind in (_DONE, _ERROR) or length < _HEADER.size:
                    return frozenset(found)
                if kind == _NEW:
                    found.update(_addresses(data[_HEADER.size : length]))
                data = data[(length + 3) & ~3 :]


def _addresses(message: bytes) -> list[IPv4Address | IPv6Address]:
    """The addresses in one message."""
    found = []
    at = _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size:
            break
        value = message[at + _ATTRIBUTE.size : at + length]
        if kind in (_ADDRESS, _LOCAL) and len(value) in (4, 16):
            found.append(ip_address(value))
        at += (length + 3) & ~3
    return found


class OwnAddresses:
    """The same, not asked for anew each time."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._asked: float | None = None
        self._known: frozenset[IPv4Address | IPv6Address] = frozenset()

    def now(self) -> frozenset[IPv4Address | IPv6Address]:
        """Every address, not older than L{FRESH} seconds; what was known, if nobody can tell."""
        now = self._clock.seconds()
        if self._asked is None or now - self._asked >= FRESH:
            self._asked = now
            try:
                self._known = read_addresses()
            except OSError:
                return self._known
        return self._known
