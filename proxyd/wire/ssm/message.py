"""
Frames of a Session Manager data channel: one binary WebSocket message each.

The layout is that of C{ClientMessage} in aws/session-manager-plugin
(src/message) and C{AgentMessage} in aws/amazon-ssm-agent
(agent/session/contracts): integers are big-endian, the id's halves are
swapped, and the header's length counts up to the payload's length, not past it.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from typing import NamedTuple

from proxyd.errors import ProtocolError

INPUT = "input_stream_data"
OUTPUT = "output_stream_data"
ACKNOWLEDGE = "acknowledge"
CHANNEL_CLOSED = "channel_closed"
START = "start_publication"
PAUSE = "pause_publication"

DATA = 1
HANDSHAKE_REQUEST = 5
HANDSHAKE_RESPONSE = 6
HANDSHAKE_COMPLETE = 7
CHALLENGE_REQUEST = 8
CHALLENGE_RESPONSE = 9
FLAG = 10
"""Kinds of payload."""

DISCONNECT_TO_PORT = 1
TERMINATE_SESSION = 2
CONNECT_TO_PORT_ERROR = 3
"""What a payload of the kind C{FLAG} says."""

SYN = 1
SYN_FIN = 3
"""Bits of a header's flags: the agent's first frame has SYN, an acknowledgement both."""

LARGEST = 256 * 1024
"""Bytes of a message; the agent's largest are a few kB."""

_HEADER = struct.Struct(">I32sIQqQ16s32sII")
_LENGTH = 116
_OLD_LENGTH = 112
_LAST = CHANNEL_CLOSED.encode("ascii")
_USUAL_LENGTH = _LENGTH.to_bytes(4, "big")


class Message(NamedTuple):
    """
    One frame. A tuple, since one is made for every kilobyte.

    @param kind: the message type, without its padding
    @param sequence: of stream data; else 0
    @param message_id: 16 bytes, in the order of the UUID's text
    @param created: milliseconds since 1970
    @param payload_type: 0 where it is no stream data
    @param digest_good: whether the payload is what the digest says. The agent
        does not look at it, and real ones were seen to be wrong: count it, no more
    """

    kind: str
    sequence: int
    flags: int
    message_id: bytes
    created: int
    payload_type: int
    payload: bytes
    digest_good: bool = True


_KINDS = {
    kind.encode("ascii").ljust(32): kind
    for kind in (INPUT, OUTPUT, ACKNOWLEDGE, CHANNEL_CLOSED, START, PAUSE)
}
_PADDED = {kind: padded for padded, kind in _KINDS.items()}


def build(
    kind: str,
    sequence: int,
    flags: int,
    message_id: bytes,
    created: int,
    payload_type: int,
    payload: bytes,
) -> bytes:
    """
    A frame's bytes; parameters as of L{Message}.

    @param payload: not empty: real peers refuse to make such a frame
    """
    if not payload:
        raise ValueError("a frame without a payload")
    padded = _PADDED.get(kind) or kind.encode("ascii").ljust(32)
    header = _HEADER.pack(
        _LENGTH,
        padded,
        1,
        created,
        sequence,
        flags,
        message_id[8:] + message_id[:8],
        hashlib.sha256(payload).digest(),
        payload_type,
        len(payload),
    )
    return header + payload


def parse(data: bytes) -> Message:
    """
    A frame from its bytes.

    The payload is all that comes after the header and the four bytes of its
    length; the length itself is not believed, as real readers don't.

    @raise ProtocolError: it is none
    """
    size = len(data)
    if size > LARGEST:
        raise ProtocolError(f"a message of {size} bytes: at most {LARGEST} are taken")
    if size >= _HEADER.size and data.startswith(_USUAL_LENGTH):
        _, name, _, created, sequence, flags, swapped, digest, payload_type, _ = (
            _HEADER.unpack_from(data)
        )
        payload = data[_HEADER.size :]
    else:
        length = _unusual_length(data)
        payload = data[length + 4 :]
        name, swapped, digest = data[4:36], data[64:80], data[80:112]
        created, sequence, flags = struct.unpack_from(">QqQ", data, 40)
        payload_type = int.from_bytes(data[112:116], "big") if length >= _LENGTH else 0
    kind = _KINDS.get(name)
    if kind is None:
        kind = name.strip(b"\0").strip(b" ").decode("ascii", "replace")
    if not kind:
        raise ProtocolError("a frame without a type")
    if not created and kind not in (START, PAUSE):
        raise ProtocolError("a frame without a date")
    # No secret: it need not take the same time for every digest.
    good = not payload or hashlib.sha256(payload).digest() == digest
    message_id = swapped[8:] + swapped[:8]
    return Message(kind, sequence, flags, message_id, created, payload_type, payload, good)


def is_last(data: bytes) -> bool:
    """Whether a frame's bytes say that the channel is closed: cheaper than L{parse}."""
    return data.startswith(_LAST, 4)


def _unusual_length(data: bytes) -> int:
    """Where the payload's length is, in a frame whose header is not as it should be."""
    size = len(data)
    if size < _OLD_LENGTH + 4:
        raise ProtocolError(f"a message of {size} bytes is too short for a frame")
    length = int.from_bytes(data[:4], "big")
    if length == _LENGTH:
        raise ProtocolError(f"a message of {size} bytes is too short for its header")
    if not _OLD_LENGTH <= length <= size - 4:
        raise ProtocolError(f"a frame's header says that it is {length} bytes long")
    return length


def id_text(message_id: bytes) -> str:
    """16 bytes as a UUID is written."""
    text = message_id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_ACK = (
    '{"AcknowledgedMessageType":"%s","AcknowledgedMessageId":"%s",'
    '"AcknowledgedMessageSequenceNumber":%d,"IsSequentialMessage":true}'
)

_SAID = re.compile(
    rb'\{"AcknowledgedMessageType":"[a-z_]{1,32}","AcknowledgedMessageId":"[0-9a-f-]{1,36}",'
    rb'"AcknowledgedMessageSequenceNumber":([0-9]{1,18}),"IsSequentialMessage":(?:true|false)\}'
)
"""How both peers write it; any other JSON is read as JSON, which takes five times as long."""


def acknowledgement(of: Message, message_id: bytes, created: int) -> bytes:
    """The frame that says that another one was taken."""
    said = _ACK % (of.kind, id_text(of.message_id), of.sequence)
    return build(ACKNOWLEDGE, 0, SYN_FIN, message_id, created, 0, said.encode("ascii"))


def acknowledged(message: Message) -> int:
    """
    Which sequence number an acknowledgement is for.

    It stands in the payload: the header's is always 0.

    @raise ProtocolError: it does not say
    """
    usual = _SAID.fullmatch(message.payload)
    if usual is not None:
        return int(usual[1])
    number = _json(message).get("AcknowledgedMessageSequenceNumber")
    if not isinstance(number, int) or isinstance(number, bool):
        raise ProtocolError("an acknowledgement that does not say of what")
    return number


def why_closed(message: Message) -> str:
    """What a C{channel_closed} says for people; empty: it ended in order."""
    try:
        said = _json(message).get("Output")
    except ProtocolError:
        return "the channel was closed"
    return said.strip()[:1000] if isinstance(said, str) else ""


def open_channel(token: str, request_id: bytes, client_id: bytes, version: str) -> str:
    """
    The text message that opens a data channel.

    @param client_id: 16 bytes; the same at every connection of one session
    """
    said = {
        "MessageSchemaVersion": "1.0",
        "RequestId": id_text(request_id),
        "TokenValue": token,
        "ClientId": id_text(client_id),
        "ClientVersion": version,
    }
    return json.dumps(said, separators=(",", ":"))


def _json(message: Message) -> dict[str, object]:
    try:
        found = json.loads(message.payload)
    except (ValueError, RecursionError):
        raise ProtocolError(f"the payload of {message.kind[:40]} is no JSON") from None
    if not isinstance(found, dict):
        raise ProtocolError(f"the payload of {message.kind[:40]} is no JSON object")
    return found
