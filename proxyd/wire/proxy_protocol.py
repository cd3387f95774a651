"""
The PROXY protocol, versions 1 and 2: whom a load balancer speaks for.

The header stands once, before the first byte of the protocol that follows.
Whose headers are believed is the listener's business.

Source: "The PROXY protocol, Versions 1 & 2" of haproxy
(C{doc/proxy-protocol.txt}), sections 2.1 and 2.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, unique
from ipaddress import IPv4Address, IPv6Address, ip_address

from proxyd.errors import ProtocolError

V1_LIMIT = 107
"""The longest header of version 1, in bytes, its CRLF included (section 2.1)."""

V2_LIMIT = 4096
"""
The longest header of version 2 that is taken, in bytes, all included.

The text asks senders to stay within 536 bytes, but the extensions of a
balancer that tells of a client's certificate may need more.
"""

_V1_START = b"PROXY "
_V2_START = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = len(_V2_START) + 4
_UNSPECIFIED, _TCP4, _TCP6, _UNIX_STREAM = 0x00, 0x11, 0x21, 0x31

# Bytes that the addresses of a family take; what follows them are extensions,
# none of which is looked at here.
_V2_SIZES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX_STREAM: 216}

_PORT = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ProxiedAddress:
    """
    What a header announced.

    Addresses are IP addresses in their shortest text, and an IPv4 address
    wrapped in IPv6 is given as IPv4. Both are None where nothing was
    announced that could stand for the real address: the balancer spoke for
    itself (LOCAL, a health check), did not know (UNKNOWN), or was reached by a
    UNIX socket.
    """

    source: tuple[str, int] | None
    destination: tuple[str, int] | None = None


@unique
class HeaderState(Enum):
    """How far a header has come."""

    READING = "waiting for the rest of the header"
    DONE = "read"
    FAILED = "broke the protocol"


class ProxyHeader:
    """
    Reads one header of either version, which must be there.

    Hand in bytes until L{receive_data} gives the address; the bytes after the
    header are then in C{trailing_data}, for whoever reads on.
    """

    __slots__ = ("_buffer", "_state")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._state = HeaderState.READING

    @property
    def state(self) -> HeaderState:
        """How far the header has come."""
        return self._state

    @property
    def trailing_data(self) -> bytes:
        """The bytes that are not part of the header, or not yet."""
        return bytes(self._buffer)

    def receive_data(self, data: bytes) -> ProxiedAddress | None:
        """
        Take bytes, in chunks of any size; give what was announced, once.

        What comes after a broken header is ignored.

        @raise ProtocolError: this is no header, or one that can't be
            understood: hang up, as the text demands
        """
        if self._state is HeaderState.FAILED:
            return None
        self._buffer += data
        if self._state is HeaderState.DONE:
            return None
        try:
            address = self._read()
        except ProtocolError:
            self._state = HeaderState.FAILED
            self._buffer.clear()
            raise
        if address is not None:
            self._state = HeaderState.DONE
        return address

    def _read(self) -> ProxiedAddress | None:
        buffer = self._buffer
        if _begins(buffer, _V1_START):
            return self._read_v1()
        if _begins(buffer, _V2_START):
            return self._read_v2()
        raise ProtocolError("no PROXY protocol header")

    def _read_v1(self) -> ProxiedAddress | None:
        """Read a line of text, once its end has come."""
        end = self._buffer.find(b"\r\n", 0, V1_LIMIT)
        if end < 0:
            if len(self._buffer) >= V1_LIMIT:
                raise ProtocolError("PROXY protocol line without an end")
            return None
        line = bytes(self._buffer[len(_V1_START) : end])
        del self._buffer[: end + 2]
        return _announced_v1(line)

    def _read_v2(self) -> ProxiedAddress | None:
        """Read a binary header, once all that it announces has come."""
        buffer = self._buffer
        if len(buffer) < _V2_FIXED:
            return None
        end = _V2_FIXED + int.from_bytes(buffer[14:_V2_FIXED], "big")
        if end > V2_LIMIT:
            raise ProtocolError("PROXY protocol header is too long")
        version, command = divmod(buffer[12], 16)
        if version != 2 or command > 1:
            raise ProtocolError("unknown version or command of the PROXY protocol")
        family = buffer[13]
        if command == 1 and family not in _V2_SIZES:
            raise ProtocolError("unknown address family of the PROXY protocol")
        if command == 1 and end - _V2_FIXED < _V2_SIZES[family]:
            raise ProtocolError("PROXY protocol header is too short for its addresses")
        if len(buffer) < end:
            return None
        body = bytes(buffer[_V2_FIXED:end])
        del buffer[:end]
        return ProxiedAddress(None) if command == 0 else _announced_v2(family, body)


def header(version: str, source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """
    The header that tells a server whom a connection is from (sections 2.1 and 2.2).

    @param version: C{v1} or C{v2}
    @param source: IP address in text and port; both addresses of one family
    """
    here, there = ip_address(source[0].partition("%")[0]), ip_address(destination[0])
    if here.version != there.version:
        here, there = (
            IPv6Address(f"::ffff:{one}") if one.version == 4 else one for one in (here, there)
        )
    if version == "v1":
        return f"PROXY TCP{here.version} {here} {there} {source[1]} {destination[1]}\r\n".encode()
    family = _TCP4 if here.version == 4 else _TCP6
    body = here.packed + there.packed
    body += source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    return _V2_START + bytes((0x21, family)) + len(body).to_bytes(2, "big") + body


def _begins(buffer: bytearray, start: bytes) -> bool:
    """Whether the buffer begins with C{start}, as far as it has come."""
    return start.startswith(bytes(buffer[: len(start)]))


def _announced_v1(line: bytes) -> ProxiedAddress:
    """Read what stands between C{PROXY } and the end of the line."""
    if line == b"UNKNOWN" or line.startswith(b"UNKNOWN "):
        return ProxiedAddress(None)
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ProtocolError("PROXY protocol line with strange bytes") from None
    if len(words) != 5 or words[0] not in ("TCP4", "TCP6"):
        raise ProtocolError("malformed PROXY protocol line")
    family, source, destination, source_port, destination_port = words
    return ProxiedAddress(
        (_address(family, source), _port(source_port)),
        (_address(family, destination), _port(destination_port)),
    )


def _announced_v2(family: int, body: bytes) -> ProxiedAddress:
    """Read the addresses of a binary header, long enough for its family."""
    if family == _TCP4:
        source, destination, ports = _text(body[:4]), _text(body[4:8]), body[8:12]
    elif family == _TCP6:
        source, destination, ports = _text(body[:16]), _text(body[16:32]), body[32:36]
    else:
        return ProxiedAddress(None)
    return ProxiedAddress(
        (source, int.from_bytes(ports[:2], "big")),
        (destination, int.from_bytes(ports[2:], "big")),
    )


def _address(family: str, text: str) -> str:
    """An address of a line, checked and made short."""
    try:
        if family == "TCP4":
            return str(IPv4Address(text))
        address = IPv6Address(text)
    except ValueError:
        raise ProtocolError("PROXY protocol line with a malformed address") from None
    if address.scope_id is not None:
        raise ProtocolError("PROXY protocol line with a malformed address")
    return _text(address.packed)


def _text(packed: bytes) -> str:
    """
    An address as text.

    IPv4 within IPv6 is unwrapped, so that no rule about the one is passed by
    as the other.
    """
    if len(packed) == 4:
        return str(IPv4Address(packed))
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ProtocolError("PROXY protocol line with a malformed port")
    return int(text)
