"""
WebSocket frames as bulk comes in them: one that is a whole binary message (RFC 6455 section 5.2).

Those are taken apart here, with as few copies as can be. All others, text, control,
fragments and whatever breaks a rule, are told apart only, and left to a whole WebSocket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct

Unmask = Callable[[bytearray, bytes], None]

_BINARY = 0x82
"""The first byte of a frame that is a whole binary message: FIN, no RSV, opcode 2."""

_FIN = 0x80
_MASKED = 0x80
_CONTROL = 0x08
_SHORT = Struct("!H")
_LONG = Struct("!Q")
_KEY = 4


def binary_head(size: int, key: bytes = b"") -> bytes:
    """
    What goes before a whole binary message.

    @param size: bytes of the message
    @param key: the four bytes by which it is masked, as a client's must be
    """
    masked = _MASKED if key else 0
    if size < 126:
        return bytes((_BINARY, masked | size)) + key
    if size < 1 << 16:
        return bytes((_BINARY, masked | 126)) + _SHORT.pack(size) + key
    return bytes((_BINARY, masked | 127)) + _LONG.pack(size) + key


class Frames:
    """
    Tells the frames of one direction apart.

    @param masked: whether they have to be masked: those of a client
    @param limit: bytes of the longest message that is taken here
    @param unmask: undoes the mask by its key, in place
    """

    __slots__ = ("_body", "_head", "_inside", "_key", "_left", "_limit", "_masked", "_unmask")

    def __init__(self, masked: bool, limit: int, unmask: Unmask) -> None:
        self._masked = masked
        self._limit = limit
        self._unmask = unmask
        self._head = b""
        self._inside = False
        self._left = 0
        self._body: bytearray | None = None
        self._key = b""

    def receive_data(self, data: bytes) -> Iterator[tuple[bool, bytes | bytearray | memoryview]]:
        """
        Take bytes, in chunks of any size.

        @return: pairs, in order: True and a whole binary message; or False and the next
            bytes of a frame that is not for us, its head included
        """
        if self._head:
            data, self._head = self._head + data, b""
        view, at, end = memoryview(data), 0, len(data)
        while at < end:
            if self._left:
                piece = view[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._body is None:
                    yield False, piece
                    continue
                self._body += piece
                if not self._left:
                    body, self._body = self._body, None
                    if self._key:
                        self._unmask(body, self._key)
                    yield True, body
                continue
            begin = self._head_end(view, at)
            if begin > end:
                self._head = bytes(view[at:])
                return
            size = self._size(view, at)
            if not self._is_ours(view, at, size):
                self._left = size
                yield False, view[at:begin]
            elif begin + size > end:
                self._key = bytes(view[begin - _KEY : begin]) if self._masked else b""
                self._body, self._left = bytearray(view[begin:]), begin + size - end
                return
            elif self._masked:
                body = bytearray(view[begin : begin + size])
                self._unmask(body, bytes(view[begin - _KEY : begin]))
                begin += size
                yield True, body
            else:
                begin += size
                yield True, view[begin - size : begin]
            at = begin

    def _head_end(self, view: memoryview, at: int) -> int:
        """Where a frame's head ends; more than there is: that is not known yet."""
        if len(view) - at < 2:
            return len(view) + 1
        second = view[at + 1]
        long = second & 0x7F
        return at + 2 + (8 if long == 127 else 2 if long == 126 else 0) + (second >> 7) * _KEY

    def _size(self, view: memoryview, at: int) -> int:
        short = view[at + 1] & 0x7F
        if short < 126:
            return short
        packed = _SHORT if short == 126 else _LONG
        size: int = packed.unpack_from(view, at + 2)[0]
        return size

    def _is_ours(self, view: memoryview, at: int, size: int) -> bool:
        """Whether a frame is a whole binary message by the rules; notes whether one goes on."""
        first, second = view[at], view[at + 1]
        inside = self._inside
        if not first & _CONTROL:
            self._inside = not first & _FIN
        least = {126: 126, 127: 1 << 16}.get(second & 0x7F, 0)
        return (
            first == _BINARY
            and not inside
            and second >> 7 == self._masked
            and least <= size <= self._limit
        )
