"""
Streams within one data channel: smux, version 1, at the client's end.

github.com/xtaci/smux 1.5, as the agent has it: 8 bytes of header, of which
length and stream id are little-endian. There is no window for a stream, and
FIN closes both directions: whoever sends it gets no more bytes.
"""

from __future__ import annotations

import struct

from proxyd.errors import LocalProtocolError, ProtocolError

_HEADER = struct.Struct("<BBHI")
_VERSION = 1
_SYN, _FIN, _PSH, _NOP = range(4)

MOST_DATA = 32768
"""Bytes of data in one frame of ours."""

NOP = _HEADER.pack(_VERSION, _NOP, 0, 0)
"""Says nothing but that we live."""

_LAST_ID = 0xFFFFFFFF


class Smux:
    """
    The client's end of all streams of one channel.

    @ivar streams: how many are open
    """

    def __init__(self) -> None:
        self._next = 3
        self._open: set[int] = set()
        self._head = b""
        self._stream = 0
        self._left = 0

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._open)

    @property
    def used_up(self) -> bool:
        """Whether no more stream can be opened, ever."""
        return self._next > _LAST_ID

    def open(self) -> tuple[int, bytes]:
        """
        Open a stream.

        @return: its number, and the bytes to send
        """
        if self.used_up:
            raise LocalProtocolError("all numbers of streams are used up")
        number, self._next = self._next, self._next + 2
        self._open.add(number)
        return number, _HEADER.pack(_VERSION, _SYN, 0, number)

    def data(self, number: int, data: bytes) -> bytes:
        """The bytes to send for a stream's data, in as many frames as it needs."""
        if number not in self._open:
            raise LocalProtocolError(f"stream {number} is not open")
        if len(data) <= MOST_DATA:
            return _HEADER.pack(_VERSION, _PSH, len(data), number) + data
        return b"".join(
            self.data(number, data[start : start + MOST_DATA])
            for start in range(0, len(data), MOST_DATA)
        )

    def close(self, number: int) -> bytes:
        """Close a stream, both directions of it; the bytes to send."""
        if number not in self._open:
            raise LocalProtocolError(f"stream {number} is not open")
        self._open.discard(number)
        return _HEADER.pack(_VERSION, _FIN, 0, number)

    def receive(self, data: bytes) -> list[tuple[int, bytes | None]]:
        """
        Take bytes of the channel, cut anywhere.

        @return: for each stream that is open, in order: its number and bytes
            of it, from as many frames as came in a row, or None when the agent
            closed it (answer with L{close})
        @raise ProtocolError: it is no smux: end the session
        """
        found: list[tuple[int, bytes | None]] = []
        row: list[bytes] = []
        whose = 0
        at, size = 0, len(data)
        while at < size:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._stream in self._open:
                    if whose != self._stream:
                        if row:
                            found.append((whose, b"".join(row)))
                            row = []
                        whose = self._stream
                    row.append(piece)
                continue
            need = 8 - len(self._head)
            if need == 8 and size - at >= 8:
                head = data[at : at + 8]
                at += 8
            else:
                self._head += data[at : at + need]
                at += need
                if len(self._head) < 8:
                    break
                head, self._head = self._head, b""
            version, command, length, number = _HEADER.unpack(head)
            if version != _VERSION:
                raise ProtocolError(f"the agent speaks version {version} of smux, not {_VERSION}")
            if command == _PSH:
                self._stream, self._left = number, length
            elif command == _FIN:
                if number in self._open:
                    if row:
                        found.append((whose, b"".join(row)))
                        row, whose = [], 0
                    found.append((number, None))
            elif command != _NOP:
                raise ProtocolError(f"an agent does not send smux frames of the kind {command}")
            if length and command != _PSH:
                raise ProtocolError(f"a smux frame of the kind {command} with {length} bytes")
        if row:
            found.append((whose, b"".join(row)))
        return found
