"""
HTTP CONNECT (RFC 9110, section 9.3.6), and C{GET /proxy.pac}, as their server.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.socks.buffers import Buffers
from proxyd.wire.socks.words import Asked, Command, Event, Login, PacAsked, Refusal, State

LIMIT = 16 * 1024
"""Bytes that the head of a request may have."""

PAC_PATH = "/proxy.pac"

_REQUEST = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]{1,2048}) HTTP/1\.[01]", re.ASCII)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*", re.ASCII)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^:\[\]]+)):([0-9]{1,5})", re.ASCII)

_STATUS = {
    Refusal.GENERAL: "502 Bad Gateway",
    Refusal.DENIED: "403 Forbidden",
    Refusal.NETWORK_UNREACHABLE: "502 Bad Gateway",
    Refusal.HOST_UNREACHABLE: "502 Bad Gateway",
    Refusal.REFUSED: "502 Bad Gateway",
    Refusal.TIMEOUT: "504 Gateway Timeout",
    Refusal.COMMAND: "501 Not Implemented",
    Refusal.ADDRESS: "400 Bad Request",
}
_WORDS = {
    Refusal.GENERAL: "the way there is broken",
    Refusal.DENIED: "denied by a rule",
    Refusal.NETWORK_UNREACHABLE: "network unreachable",
    Refusal.HOST_UNREACHABLE: "host unreachable, or no such name",
    Refusal.REFUSED: "connection refused",
    Refusal.TIMEOUT: "timed out",
    Refusal.COMMAND: "not served",
    Refusal.ADDRESS: "not an address",
}


class HttpConnect(Buffers):
    """One client's handshake. See L{Handshake<proxyd.wire.socks.words.Handshake>}."""

    __slots__ = ("_asked",)

    def __init__(self, login: bool) -> None:
        """@param login: whether a client must log in"""
        super().__init__(login)
        self._asked: Asked | None = None

    def receive_data(self, data: bytes) -> list[Event]:
        """
        Take bytes from the client, in chunks of any size.

        @raise ProtocolError: they are no request that is served here; send
            what L{data_to_send} gives, then hang up
        """
        if self._state is State.FAILED:
            return []
        self._buffer += data
        if self._state is not State.READING:
            return []
        end = self._buffer.find(b"\r\n\r\n", 0, LIMIT)
        if end < 0:
            if len(self._buffer) >= LIMIT:
                self._fail("431 Request Header Fields Too Large", "the head is too long")
                raise ProtocolError("a request without end")
            return []
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return self._read(head)

    def login_good(self) -> list[Event]:
        """The client is who it says."""
        self._expect(State.LOGIN)
        assert self._asked is not None
        self._state = State.ASKED
        return [self._asked]

    def login_bad(self) -> None:
        """It is not: it is told to log in."""
        self._expect(State.LOGIN)
        self._who()

    def accept(self, host: str, port: int) -> None:
        """It is done."""
        self._expect(State.ASKED)
        self._out += b"HTTP/1.1 200 Connection established\r\n\r\n"
        self._state = State.DONE

    def refuse(self, why: Refusal) -> None:
        """It can't be done."""
        self._expect(State.ASKED)
        if self._asked is None:
            self._fail("404 Not Found", "there is no such page")
        else:
            self._fail(_STATUS[why], _WORDS[why])

    def pac(self, text: str) -> None:
        """Here is the PAC file; then hang up."""
        self._expect(State.ASKED)
        body = text.encode()
        self._answer("200 OK", body, "application/x-ns-proxy-autoconfig")
        self._state = State.FAILED

    def _expect(self, state: State) -> None:
        if self._state is not state:
            raise LocalProtocolError(f"{self._state.value}, not {state.value}")

    def _read(self, head: bytes) -> list[Event]:
        first, *lines = head.split(b"\r\n")
        request = _REQUEST.fullmatch(first)
        fields = [_FIELD.fullmatch(line) for line in lines]
        if request is None or not all(fields):
            self._fail("400 Bad Request", "this is no request")
            raise ProtocolError("not an HTTP request")
        method, target = request[1].decode(), request[2].decode()
        if method in ("GET", "HEAD") and target.partition("?")[0] == PAC_PATH:
            self._state = State.ASKED
            return [PacAsked()]
        if method != "CONNECT":
            self._fail("405 Method Not Allowed", "only CONNECT is served here", "Allow: CONNECT")
            raise ProtocolError(f"HTTP method {method}")
        where = _AUTHORITY.fullmatch(target)
        if where is None or int(where[3]) > 65535:
            self._fail("400 Bad Request", "CONNECT names no HOST:PORT")
            raise ProtocolError("not HOST:PORT")
        self._asked = Asked(Command.CONNECT, where[1] or where[2], int(where[3]))
        self.command = Command.CONNECT
        if not self._login:
            self._state = State.ASKED
            return [self._asked]
        named = [m[2] for m in fields if m and m[1].lower() == b"proxy-authorization"]
        login = _basic(named[0]) if len(named) == 1 else None
        if login is None:
            self._who()
            return []
        self._state = State.LOGIN
        return [login]

    def _who(self) -> None:
        """Ask for a login; the client has to come again with it."""
        field = 'Proxy-Authenticate: Basic realm="proxyd", charset="UTF-8"'
        self._fail("407 Proxy Authentication Required", "log in", field)

    def _fail(self, status: str, words: str, field: str = "") -> None:
        self._answer(status, f"{words}\n".encode(), "text/plain; charset=utf-8", field)
        self._state = State.FAILED
        self._buffer.clear()

    def _answer(self, status: str, body: bytes, kind: str, field: str = "") -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        lines += ["Cache-Control: no-store", "Connection: close", *([field] if field else [])]
        self._out += "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _basic(value: bytes) -> Login | None:
    """User and password of C{Basic} (RFC 7617); None: it is something else."""
    scheme, _, coded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = b64decode(coded.strip(), validate=True).partition(b":")
    except Error:
        return None
    return Login(user, password) if colon else None
