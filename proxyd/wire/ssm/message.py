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
import struct
from dataclasses import dataclass
from hmac import compare_digest

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
_ID = struct.Struct("8s8s")


@dataclass(frozen=True, slots=True)
class Message:
    """
    One frame.

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
    first, second = _ID.unpack(message_id)
    header = _HEADER.pack(
        _LENGTH,
        padded,
        1,
        created,
        sequence,
        flags,
        second + first,
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
    if size < _OLD_LENGTH + 4:
        raise ProtocolError(f"a message of {size} bytes is too short for a frame")
    length = int.from_bytes(data[:4], "big")
    if length != _LENGTH and not _OLD_LENGTH <= length <= size - 4:
        raise ProtocolError(f"a frame's header says that it is {length} bytes long")
    if length == _LENGTH and size < _LENGTH + 4:
        raise ProtocolError(f"a message of {size} bytes is too short for its header")
    payload = data[length + 4 :]
    name = data[4:36]
    kind = _KINDS.get(name)
    if kind is None:
        kind = name.strip(b"\0").strip(b" ").decode("ascii", "replace")
    created, sequence, flags = struct.unpack_from(">QqQ", data, 40)
    if not kind:
        raise ProtocolError("a frame without a type")
    if not created and kind not in (START, PAUSE):
        raise ProtocolError("a frame without a date")
    second, first = _ID.unpack_from(data, 64)
    payload_type = int.from_bytes(data[112:116], "big") if length >= _LENGTH else 0
    good = not payload or compare_digest(hashlib.sha256(payload).digest(), data[80:112])
    return Message(kind, sequence, flags, first + second, created, payload_type, payload, good)


def id_text(message_id: bytes) -> str:
    """16 bytes as a UUID is written."""
    text = message_id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_ACK = (
    '{"AcknowledgedMessageType":"%s","AcknowledgedMessageId":"%s",'
    '"AcknowledgedMessageSequenceNumber":%d,"IsSequentialMessage":true}'
)


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
