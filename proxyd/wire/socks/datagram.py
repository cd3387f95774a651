"""
A datagram on its way between a client and us (RFC 1928, section 7).
"""

from __future__ import annotations

from dataclasses import dataclass

from proxyd.errors import ProtocolError
from proxyd.wire.socks.words import packed_address, read_address


@dataclass(frozen=True, slots=True)
class Datagram:
    """
    What a client wants to have sent, or is given.

    @param host: an address in text, or a name
    """

    host: str
    port: int
    payload: bytes


def read_datagram(data: bytes) -> Datagram:
    """
    RSV, FRAG, ATYP, DST.ADDR, DST.PORT, DATA.

    @raise ProtocolError: it is none, or a fragment: an implementation that
        does not join them must drop them (section 7)
    """
    if len(data) < 4 or data[0] or data[1]:
        raise ProtocolError("not a datagram for SOCKS5")
    if data[2]:
        raise ProtocolError("a fragment")
    found = read_address(data, 3)
    if found is None:
        raise ProtocolError("a datagram that ends in its address")
    host, port, end = found
    return Datagram(host, port, data[end:])


def write_datagram(datagram: Datagram) -> bytes:
    """The same, as bytes; C{host} is where it came from."""
    return bytes(3) + packed_address(datagram.host, datagram.port) + datagram.payload
