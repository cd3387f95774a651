"""
SOCKS4 and SOCKS4A, as their server.

Sources: Ying-Da Lee, "SOCKS: A protocol for TCP proxy across firewalls", and
"SOCKS 4A: A Simple Extension to SOCKS 4 Protocol". There is no password in
them, so that where a login is asked for everybody is refused.
"""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.socks.buffers import Buffers
from proxyd.wire.socks.words import Asked, Command, Event, Refusal, State

VERSION = 4
_GRANTED, _REJECTED, _WHO = 0x5A, 0x5B, 0x5D
_FIXED = 8
_LONGEST = 255


class Socks4(Buffers):
    """One client's handshake. See L{Handshake<proxyd.wire.socks.words.Handshake>}."""

    __slots__ = ()

    def receive_data(self, data: bytes) -> list[Event]:
        """
        Take bytes from the client, in chunks of any size.

        @raise ProtocolError: they are no request; send what L{data_to_send}
            gives, then hang up
        """
        if self._state is State.FAILED:
            return []
        self._buffer += data
        if self._state is not State.READING:
            return []
        try:
            return self._request()
        except ProtocolError:
            self._answer(_REJECTED)
            self._state = State.FAILED
            self._buffer.clear()
            raise

    def login_good(self) -> list[Event]:
        """There is no login in this protocol."""
        raise LocalProtocolError("SOCKS4 has no login")

    def login_bad(self) -> None:
        """There is no login in this protocol."""
        raise LocalProtocolError("SOCKS4 has no login")

    def accept(self, host: str, port: int) -> None:
        """It is done; for BIND said twice."""
        if self._state is not State.DONE or self.command is not Command.BIND:
            self._expect()
        self._answer(_GRANTED, host, port)
        self._state = State.DONE

    def refuse(self, why: Refusal) -> None:
        """It can't be done; this protocol has no way to say why."""
        if self._state is not State.DONE or self.command is not Command.BIND:
            self._expect()
        self._answer(_REJECTED)
        self._state = State.FAILED

    def _expect(self) -> None:
        if self._state is not State.ASKED:
            raise LocalProtocolError(f"{self._state.value}, not {State.ASKED.value}")

    def _answer(self, code: int, host: str = "0.0.0.0", port: int = 0) -> None:
        """VN 0, CD, DSTPORT, DSTIP."""
        try:
            address = ip_address(host)
        except ValueError:
            address = IPv4Address(0)
        packed = address.packed if address.version == 4 else bytes(4)
        self._out += bytes((0, code)) + port.to_bytes(2, "big") + packed

    def _request(self) -> list[Event]:
        """VN 4, CD, DSTPORT, DSTIP, USERID, NUL; for 4A a name, NUL."""
        buffer = self._buffer
        if buffer[:1] not in (b"", bytes((VERSION,))):
            raise ProtocolError("not SOCKS4")
        if len(buffer) < _FIXED:
            return []
        user = _text(buffer, _FIXED)
        if user is None:
            return []
        raw = bytes(buffer[4:8])
        end = _FIXED + len(user) + 1
        host = str(IPv4Address(raw))
        if raw[:3] == b"\0\0\0" and raw[3]:
            name = _text(buffer, end)
            if name is None:
                return []
            end += len(name) + 1
            host = name.decode("utf-8", "surrogateescape")
            if not host:
                raise ProtocolError("an empty name")
        code, port = buffer[1], int.from_bytes(buffer[2:4], "big")
        del buffer[:end]
        if self._login:
            self._answer(_WHO)
            self._state = State.FAILED
            buffer.clear()
            return []
        if code not in (Command.CONNECT, Command.BIND):
            raise ProtocolError(f"command {code}")
        self.command = Command(code)
        self._state = State.ASKED
        return [Asked(self.command, host, port)]


def _text(buffer: bytearray, start: int) -> bytes | None:
    """
    The text up to a NUL; None: it is not all here.

    @raise ProtocolError: it is longer than any may be
    """
    end = buffer.find(0, start, start + _LONGEST + 1)
    if end < 0:
        if len(buffer) > start + _LONGEST:
            raise ProtocolError("a text without end")
        return None
    return bytes(buffer[start:end])
