"""
Where one PostgreSQL message ends and the next begins.

For the talk at a connection's two ends, where messages are small and are read
whole: logins, resets, what proxyd asks for itself. What is relayed between a
client and a server is never cut into messages here.

Source: PostgreSQL, "Frontend/Backend Protocol", chapter "Message Formats": a
type byte, then a length of four bytes that counts itself and the body.
"""

from __future__ import annotations

from struct import Struct

from proxyd.wire.pg.errors import PgProtocolError

_unpack = Struct(">Bi").unpack_from

HEADER = 5
"""Bytes of a message before its body."""


class MessageReader:
    """
    Cuts bytes into messages, one at a time, as the caller asks for them.

    After each L{feed} call L{next_message} until it gives None, or until what
    was wanted has come: the bytes after it stay in L{trailing_data} for
    whoever reads on.

    @param limit: the longest body that is taken, in bytes
    @param kinds: the message types that are taken; None: all of them
    """

    __slots__ = ("_buffer", "_kinds", "_limit")

    def __init__(self, limit: int, kinds: frozenset[int] | None = None) -> None:
        self._limit = limit
        self._kinds = kinds
        self._buffer = bytearray()

    @property
    def trailing_data(self) -> bytes:
        """The bytes that no message has been made of."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes, in chunks of any size."""
        self._buffer += data

    def next_message(self) -> tuple[int, bytes] | None:
        """
        The next whole message as its type and body; None while there is none.

        A message is refused as soon as its header shows what is wrong with it,
        before its body has come.

        @raise PgProtocolError: its type is not taken here, or its length is
            below four or over the limit; the reader is of no use after it
        """
        buffer = self._buffer
        if not buffer:
            return None
        kind = buffer[0]
        if self._kinds is not None and kind not in self._kinds:
            raise PgProtocolError(f"invalid frontend message type {kind}")
        if len(buffer) < HEADER:
            return None
        _, length = _unpack(buffer)
        if length < 4 or length - 4 > self._limit:
            raise PgProtocolError("invalid message length")
        end = length + 1
        if len(buffer) < end:
            return None
        body = bytes(buffer[HEADER:end])
        del buffer[:end]
        return kind, body


def whole_messages(data: bytes, limit: int, last: int) -> tuple[list[tuple[int, bytes]], int]:
    """
    Cut all whole messages that these bytes begin with, in one go.

    @param limit: the longest body that is taken, in bytes
    @param last: the kind of message after which no more are cut
    @return: the messages as type and body, and how many bytes they took
    @raise PgProtocolError: a length is below four or over the limit
    """
    found: list[tuple[int, bytes]] = []
    size = len(data)
    at = 0
    while at + HEADER <= size:
        kind, length = _unpack(data, at)
        if length < 4 or length - 4 > limit:
            raise PgProtocolError("invalid message length")
        end = at + 1 + length
        if end > size:
            break
        found.append((kind, data[at + HEADER : end]))
        at = end
        if kind == last:
            break
    return found, at
