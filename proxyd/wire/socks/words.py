"""
What a client may ask for and be told, whichever of the protocols it speaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, unique
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from proxyd.errors import ProtocolError


@unique
class Command(IntEnum):
    """What a client asks for (RFC 1928, section 4)."""

    CONNECT = 1
    BIND = 2
    UDP = 3


@unique
class Refusal(IntEnum):
    """Why a client can't have it (RFC 1928, section 6: the values are its codes)."""

    GENERAL = 1
    DENIED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TIMEOUT = 6
    COMMAND = 7
    ADDRESS = 8


@dataclass(frozen=True, slots=True)
class Login:
    """
    A client says who it is.

    Look at it, then say C{login_good} or C{login_bad}; no more events come
    before that. Neither part is shown in a C{repr}.
    """

    user: bytes
    password: bytes

    def __repr__(self) -> str:
        return "<Login>"


@dataclass(frozen=True, slots=True)
class Asked:
    """
    A client wants something; it waits for C{accept} or C{refuse}.

    @param host: an address in text, or a name as the client wrote it
    """

    command: Command
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class PacAsked:
    """A browser wants the PAC file; it waits for C{pac} or C{refuse}."""


Event = Login | Asked | PacAsked


@unique
class State(Enum):
    """How far a handshake has come."""

    READING = "waiting for the client"
    LOGIN = "waiting for a verdict on the login"
    ASKED = "waiting for an answer to the request"
    DONE = "accepted"
    FAILED = "refused"


class Handshake(Protocol):
    """
    One of the protocols, from its first byte to its answer.

    Hand in bytes until an event comes, and answer it; send C{data_to_send}
    after each call. After C{accept}, what the client sent too early for us to
    answer is in C{trailing_data}. After C{refuse} or a L{ProtocolError}: send
    what is to be sent, then close.
    """

    @property
    def state(self) -> State:
        """How far it has come."""

    @property
    def trailing_data(self) -> bytes:
        """The bytes behind the request: the first for its target."""

    def receive_data(self, data: bytes) -> list[Event]:
        """
        Take bytes, in chunks of any size; they may be none.

        @raise ProtocolError: they are none of this protocol
        """

    def data_to_send(self) -> bytes:
        """Take what is to be sent now."""

    def login_good(self) -> list[Event]:
        """The client is who it says; what it has sent since is read."""

    def login_bad(self) -> None:
        """It is not."""

    def accept(self, host: str, port: int) -> None:
        """
        It is done.

        @param host: the address of our own end, in text
        """

    def refuse(self, why: Refusal) -> None:
        """It can't be done."""


def packed_address(host: str, port: int) -> bytes:
    """
    An address as SOCKS5 writes it: type, address or name, port (RFC 1928, section 5).

    @param host: an IP address in text, without zone, or a name of at most 255 bytes
    """
    return _packed_host(host) + port.to_bytes(2, "big")


@lru_cache(maxsize=256)
def _packed_host(host: str) -> bytes:
    """Type and address; kept, since our own end's address is told in every reply."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        name = host.encode("utf-8", "surrogateescape")[:255]
        return bytes((3, len(name))) + name
    return bytes((1 if address.version == 4 else 4,)) + address.packed


def read_address(data: bytes | bytearray | memoryview, start: int) -> tuple[str, int, int] | None:
    """
    The host, the port, and where the address ends that starts here; None: it is not all here.

    @raise ProtocolError: there is no such type of address, or the name is empty
    """
    if len(data) < start + 2:
        return None
    kind, at = data[start], start + 1
    size = {1: 4, 4: 16}.get(kind)
    if size is None:
        if kind != 3:
            raise ProtocolError(f"address type {kind}")
        size, at = data[at], at + 1
        if not size:
            raise ProtocolError("an empty name")
    end = at + size + 2
    if len(data) < end:
        return None
    raw = bytes(data[at : at + size])
    if kind == 3:
        host = raw.decode("utf-8", "surrogateescape")
    else:
        host = "%d.%d.%d.%d" % tuple(raw) if kind == 1 else str(IPv6Address(raw))  # noqa: UP031
    return host, int.from_bytes(data[end - 2 : end], "big"), end
