"""
SOCKS5 (RFC 1928) with user and password (RFC 1929), as its server.
"""

from __future__ import annotations

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.socks.buffers import Buffers
from proxyd.wire.socks.words import (
    Asked,
    Command,
    Event,
    Login,
    Refusal,
    State,
    packed_address,
    read_address,
)

VERSION = 5
_LOGIN_VERSION = 1
_OPEN, _PASSWORD, _NONE = 0, 2, 0xFF


class Socks5(Buffers):
    """
    One client's handshake. See L{Handshake<proxyd.wire.socks.words.Handshake>}.

    """

    __slots__ = ("_read",)

    def __init__(self, login: bool) -> None:
        """@param login: whether a client must log in"""
        super().__init__(login)
        self._read = self._greeting

    def receive_data(self, data: bytes) -> list[Event]:
        """
        Take bytes from the client, in chunks of any size.

        @raise ProtocolError: the client broke RFC 1928; what it should be told
            is in L{data_to_send}: send that, then hang up
        """
        if self._state is State.FAILED:
            return []
        self._buffer += data
        events: list[Event] = []
        try:
            while self._state is State.READING:
                event = self._read()
                if event is None:
                    break
                events += event
        except ProtocolError:
            self._state = State.FAILED
            self._buffer.clear()
            raise
        return events

    def login_good(self) -> list[Event]:
        """The client is who it says; what it has sent since is read."""
        self._expect(State.LOGIN)
        self._out += bytes((_LOGIN_VERSION, 0))
        self._state, self._read = State.READING, self._request
        return self.receive_data(b"")

    def login_bad(self) -> None:
        """It is not: it must be hung up on (RFC 1929, section 2)."""
        self._expect(State.LOGIN)
        self._out += bytes((_LOGIN_VERSION, 1))
        self._state = State.FAILED

    def accept(self, host: str, port: int) -> None:
        """
        It is done; for BIND said twice: when we listen, and when the peer has come.

        @param host: our own end's address, or for BIND's second the peer's
        """
        if self._state is not State.DONE or self.command is not Command.BIND:
            self._expect(State.ASKED)
        self._out += bytes((VERSION, 0, 0)) + packed_address(host, port)
        self._state = State.DONE

    def refuse(self, why: Refusal) -> None:
        """It can't be done."""
        if self._state is not State.DONE or self.command is not Command.BIND:
            self._expect(State.ASKED)
        self._refuse(why)

    def _refuse(self, why: Refusal) -> None:
        self._out += bytes((VERSION, why, 0)) + packed_address("0.0.0.0", 0)
        self._state = State.FAILED

    def _expect(self, state: State) -> None:
        if self._state is not state:
            raise LocalProtocolError(f"{self._state.value}, not {state.value}")

    def _greeting(self) -> list[Event] | None:
        """VER, NMETHODS, METHODS (RFC 1928, section 3)."""
        buffer = self._buffer
        if buffer[:1] not in (b"", bytes((VERSION,))):
            raise ProtocolError("not SOCKS5")
        if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
            return None
        offered = buffer[2 : 2 + buffer[1]]
        del buffer[: 2 + buffer[1]]
        if self._login:
            chosen = _PASSWORD if _PASSWORD in offered else _NONE
        else:
            # One that can't do without a login may log in: anybody is let in.
            chosen = next((one for one in (_OPEN, _PASSWORD) if one in offered), _NONE)
        self._out += bytes((VERSION, chosen))
        if chosen == _NONE:
            raise ProtocolError("no login method of ours was offered")
        self._read = self._request if chosen == _OPEN else self._password
        return []

    def _password(self) -> list[Event] | None:
        """VER, ULEN, UNAME, PLEN, PASSWD (RFC 1929, section 2)."""
        buffer = self._buffer
        if buffer and buffer[0] != _LOGIN_VERSION:
            self._out += bytes((_LOGIN_VERSION, 1))
            raise ProtocolError("not the login of RFC 1929")
        if len(buffer) < 2 or len(buffer) < 3 + buffer[1]:
            return None
        at = 2 + buffer[1]
        end = at + 1 + buffer[at]
        if len(buffer) < end:
            return None
        login = Login(bytes(buffer[2:at]), bytes(buffer[at + 1 : end]))
        del buffer[:end]
        self._state = State.LOGIN
        return [login]

    def _request(self) -> list[Event] | None:
        """VER, CMD, RSV, ATYP, DST.ADDR, DST.PORT (RFC 1928, section 4)."""
        buffer = self._buffer
        if buffer and buffer[0] != VERSION:
            self._refuse(Refusal.GENERAL)
            raise ProtocolError("not a SOCKS5 request")
        try:
            found = read_address(buffer, 3)
        except ProtocolError:
            self._refuse(Refusal.ADDRESS)
            raise
        if found is None:
            return None
        host, port, end = found
        code = buffer[1]
        del buffer[:end]
        try:
            self.command = Command(code)
        except ValueError:
            self._refuse(Refusal.COMMAND)
            raise ProtocolError(f"command {code}") from None
        self._state = State.ASKED
        return [Asked(self.command, host, port)]
