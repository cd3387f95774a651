"""
Frames of C{proxyd.mux.v1}: what a binary WebSocket message holds, one or several of them.

A frame is eight bytes of header and its payload::

    0      1       2..3      4..7        8..
    type   flags   length    stream id   payload      (big-endian)

A receiver skips a type it does not know by its length, so that a later version
may add some. What frames mean is in L{proxyd.wire.agent.mux}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import IntEnum, IntFlag, unique
from struct import Struct
from typing import Any, TypeVar

from proxyd.errors import ProtocolError

SUBPROTOCOL = "proxyd.mux.v1"
"""The WebSocket subprotocol by which both sides agree on frames."""

LONGEST = 65_535
"""Bytes of payload that a frame may have."""

MESSAGE_LIMIT = 512 * 1024
"""Bytes of the longest WebSocket message that is taken."""

TEXT_LIMIT = 1024
"""Characters of a reason that are kept."""

HEADER = Struct("!BBHI")
_Bytes = TypeVar("_Bytes", bytes, memoryview)
_CODE = Struct("!H")
_WINDOW = Struct("!I")
_GOAWAY = Struct("!HI")


@unique
class Kind(IntEnum):
    """What a frame is for."""

    OPEN = 1
    OPEN_OK = 2
    OPEN_FAIL = 3
    DATA = 4
    CREDIT = 5
    FIN = 6
    RESET = 7
    PING = 8
    PONG = 9
    GOAWAY = 10
    DATAGRAM = 11


OF_THE_SESSION = frozenset({Kind.PING, Kind.PONG, Kind.GOAWAY})
"""What belongs to no stream."""

OF_A_STREAM = frozenset(
    {Kind.OPEN_OK, Kind.OPEN_FAIL, Kind.CREDIT, Kind.FIN, Kind.RESET, Kind.DATAGRAM}
)
"""What belongs to a stream that is there, but for its data."""


class Flag(IntFlag):
    """What else is to be known of a frame."""

    FIN = 1
    COMPRESSED = 2


# As they are in a frame: a member of an enumeration is slow to compare with.
DATA = int(Kind.DATA)
FIN = int(Flag.FIN)
COMPRESSED = int(Flag.COMPRESSED)


@unique
class Code(IntEnum):
    """Why a stream could not be opened or was reset, and why a session ends."""

    NONE = 0
    REFUSED = 1
    UNREACHABLE = 2
    TIMEOUT = 3
    NAME = 4
    DENIED = 5
    LIMIT = 6
    RESET = 7
    GONE = 8
    UNSUPPORTED = 9
    INTERNAL = 10
    PROTOCOL = 11
    REPLACED = 12
    STOPPING = 13
    SLOW = 14
    IDLE = 15


def code_of(number: int) -> Code:
    """A code by its number; one of a later version is INTERNAL."""
    try:
        return Code(number)
    except ValueError:
        return Code.INTERNAL


def frame(kind: Kind, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """One frame; its payload is at most L{LONGEST} bytes."""
    return HEADER.pack(kind, flags, len(payload), stream) + payload


def frames_in(message: _Bytes) -> Iterator[tuple[int, int, int, _Bytes]]:
    """
    The frames of a message: type, flags, stream id, payload (of the message's own type).

    @raise ProtocolError: the message ends within a frame
    """
    at, end = 0, len(message)
    while at < end:
        if end - at < HEADER.size:
            raise ProtocolError("a message ends within a frame's header")
        kind, flags, length, stream = HEADER.unpack_from(message, at)
        at += HEADER.size
        if end - at < length:
            raise ProtocolError("a message ends within a frame")
        yield kind, flags, stream, message[at : at + length]
        at += length


def open_payload(fields: Mapping[str, Any]) -> bytes:
    """An OPEN's payload: a JSON object."""
    return json.dumps(fields, separators=(",", ":")).encode()


def parse_open(payload: bytes) -> dict[str, Any]:
    """
    An OPEN's fields.

    @raise ProtocolError: they are no JSON object
    """
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        raise ProtocolError("an OPEN without JSON") from None
    if not isinstance(fields, dict):
        raise ProtocolError("an OPEN without a JSON object")
    return fields


def reason_payload(code: Code, text: str = "") -> bytes:
    """The payload of OPEN_FAIL and RESET: a code, and a text for people."""
    return _CODE.pack(code) + text[:TEXT_LIMIT].encode("utf-8", "replace")


def parse_reason(payload: bytes) -> tuple[Code, str]:
    """
    The code and the text of an OPEN_FAIL or RESET.

    @raise ProtocolError: there is no code
    """
    if len(payload) < _CODE.size:
        raise ProtocolError("a reason without a code")
    text = payload[_CODE.size :].decode("utf-8", "replace")[:TEXT_LIMIT]
    return code_of(_CODE.unpack_from(payload)[0]), text


def number_payload(number: int) -> bytes:
    """The payload of CREDIT and OPEN_OK: a number of bytes."""
    return _WINDOW.pack(number)


def parse_number(payload: bytes) -> int:
    """
    The number in a CREDIT or OPEN_OK; what follows it belongs to a later version.

    @raise ProtocolError: there is none
    """
    if len(payload) < _WINDOW.size:
        raise ProtocolError("a frame without its number")
    number: int = _WINDOW.unpack_from(payload)[0]
    return number


def goaway_payload(code: Code, last: int, text: str = "") -> bytes:
    """The payload of GOAWAY: why, and the last stream that was taken."""
    return _GOAWAY.pack(code, last) + text[:TEXT_LIMIT].encode("utf-8", "replace")


def parse_goaway(payload: bytes) -> tuple[Code, int, str]:
    """
    What a GOAWAY says.

    @raise ProtocolError: it is too short
    """
    if len(payload) < _GOAWAY.size:
        raise ProtocolError("a GOAWAY without its fields")
    code, last = _GOAWAY.unpack_from(payload)
    return code_of(code), last, payload[_GOAWAY.size :].decode("utf-8", "replace")[:TEXT_LIMIT]
