"""
A PostgreSQL client that hides nothing: it sends any bytes and shows every message.

Blocking sockets, no reactor, no line of proxyd's: what proxyd says is judged
here by the protocol's own documentation. Every wait has a deadline.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from tests.support import pgbytes
from tests.support.deadlines import Deadline, DeadlinePassed

SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the server's: its type and its body without the header."""

    kind: str
    body: bytes

    def fields(self) -> dict[str, str]:
        """The fields of an ErrorResponse or NoticeResponse, by their letters."""
        parts = self.body.split(b"\0")
        return {chr(part[0]): part[1:].decode(errors="replace") for part in parts if part}

    def strings(self) -> list[str]:
        """A body that is nothing but strings (ParameterStatus, CommandComplete)."""
        return [part.decode(errors="replace") for part in self.body.split(b"\0")[:-1]]

    def columns(self) -> tuple[str | None, ...]:
        """A DataRow's values, as text."""
        values: list[str | None] = []
        at = 2
        for _ in range(*struct.unpack_from("!H", self.body)):
            (size,) = struct.unpack_from("!i", self.body, at)
            at += 4
            if size < 0:
                values.append(None)
                continue
            values.append(self.body[at : at + size].decode(errors="replace"))
            at += size
        return tuple(values)


class ServerError(Exception):
    """An ErrorResponse that a caller did not ask to see."""

    def __init__(self, message: Message) -> None:
        self.fields = message.fields()
        self.sqlstate = self.fields.get("C", "")
        super().__init__(f"{self.fields.get('S')} {self.sqlstate} {self.fields.get('M')}")


class Hangup(Exception):
    """The server closed the connection where it was to answer."""


class WireClient:
    """
    One connection to a server, closed by the C{with} statement or L{close}.

    After L{login}: L{pid}, L{key} and L{parameters} as the server told them.

    @param host: an address, or (starting with C{/}) a UNIX socket's path
    @param seconds: how long one wait may take
    """

    def __init__(self, host: str, port: int, *, seconds: float = SECONDS) -> None:
        self.host = host
        self.port = port
        self.seconds = seconds
        self.pid = 0
        self.key = b""
        self.status = ""
        self.parameters: dict[str, str] = {}
        self.context: ssl.SSLContext | None = None
        self._buffer = bytearray()
        family = socket.AF_UNIX if host.startswith("/") else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self.socket.settimeout(seconds)
            if family == socket.AF_UNIX:
                self.socket.connect(host)
            else:
                self.socket.connect((host, port))
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> WireClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def be_patient(self, seconds: float) -> None:
        """Let each wait from now on take this long."""
        self.seconds = seconds
        self.socket.settimeout(seconds)

    # -- ways to leave

    def close(self) -> None:
        """Close the connection, without a Terminate."""
        self.socket.close()

    def leave(self) -> None:
        """Terminate, then close."""
        try:
            self.send(pgbytes.TERMINATE)
        except OSError:
            pass  # it is gone already, which is all that was wanted
        self.close()

    def kill(self) -> None:
        """Reset the connection, as of a client whose machine lost its power and came back."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def half_close(self) -> None:
        """Say that no more is sent; answers can still come."""
        self.socket.shutdown(socket.SHUT_WR)

    # -- bytes

    def send(self, data: bytes, cuts: Sequence[int] = ()) -> None:
        """
        Send bytes.

        @param cuts: positions at which they are cut into segments
        @raise OSError: the connection is broken
        """
        at = 0
        for cut in [*cuts, len(data)]:
            if cut > at:
                self.socket.sendall(data[at:cut])
                at = cut

    def receive(self, size: int = 65536) -> bytes:
        """
        What comes next, at most so many bytes; nothing at the end of the connection.

        A reset is an end too.

        @raise DeadlinePassed: nothing comes
        """
        try:
            return self.socket.recv(size)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""
        except TimeoutError:
            raise DeadlinePassed(f"waited {self.seconds:g} s for the server") from None

    def read_bytes(self, count: int) -> bytes:
        """Exactly so many bytes, fewer only at the end of the connection."""
        while len(self._buffer) < count:
            data = self.receive()
            if not data:
                break
            self._buffer += data
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def throw_away(self, count: int) -> int:
        """Read and forget so many bytes; gives how many came."""
        gone = min(count, len(self._buffer))
        del self._buffer[:gone]
        while gone < count:
            data = self.receive(min(1 << 20, count - gone))
            if not data:
                break
            gone += len(data)
        return gone

    # -- messages

    def read_message(self) -> Message | None:
        """
        The next message; None at the end of the connection.

        @raise Hangup: the connection ended within a message
        """
        header = self.read_bytes(5)
        if not header:
            return None
        kind, length = chr(header[0]), int.from_bytes(header[1:], "big")
        body = self.read_bytes(length - 4)
        if len(header) < 5 or len(body) < length - 4:
            raise Hangup(f"the connection ended within a message {kind!r}")
        if kind == "Z":
            self.status = body.decode()
        return Message(kind, body)

    def read_until(self, kinds: str) -> list[Message]:
        """
        Messages up to and with the one that completes C{kinds}, types in the order awaited.

        A C{$} awaits the end of the connection. An early end ends the list too.

        @raise DeadlinePassed: they don't all come, whatever else does
        """
        messages: list[Message] = []
        left = list(kinds)
        deadline = Deadline(self.seconds, f"{kinds} from the server")
        while left:
            deadline.left()
            message = self.read_message()
            if message is None:
                return messages
            messages.append(message)
            if message.kind == left[0]:
                del left[0]
        return messages

    def read_to_end(self) -> list[Message]:
        """All that comes until the connection ends."""
        return self.read_until("$")

    # -- a session

    def start_tls(self, context: ssl.SSLContext | None = None) -> None:
        """
        Ask for TLS and begin it.

        @param context: None: any certificate will do
        @raise Hangup: the server does not offer TLS
        """
        self.send(pgbytes.SSL_REQUEST)
        answer = self.read_bytes(1)
        if answer != b"S":
            raise Hangup(f"SSLRequest was answered by {answer!r}")
        self.begin_tls(context)

    def begin_tls(self, context: ssl.SSLContext | None = None) -> None:
        """Begin TLS at once, as after an answered SSLRequest or as direct TLS."""
        self.context = context or trusting_context()
        self.socket = self.context.wrap_socket(self.socket, server_hostname=self.host)

    def login(
        self, user: str, database: str = "", password: str = "", **settings: str
    ) -> list[Message]:
        """
        Log in; gives what came after AuthenticationOk, ReadyForQuery the last.

        @raise ServerError: refused
        @raise Hangup: the server hung up
        """
        parameters = {"user": user} | ({"database": database} if database else {}) | settings
        self.send(pgbytes.startup(parameters))
        return self.finish_login(password)

    def finish_login(self, password: str = "") -> list[Message]:
        """Answer what the server asks for, up to ReadyForQuery; as L{login}."""
        scram = Scram(password)
        seen: list[Message] = []
        while not seen or seen[-1].kind != "Z":
            message = self.read_message()
            if message is None:
                raise Hangup("the connection ended during the login")
            if message.kind == "E":
                raise ServerError(message)
            if message.kind == "R":
                self._answer(message.body, password, scram)
                continue
            if message.kind == "S":
                name, value = message.strings()
                self.parameters[name] = value
            if message.kind == "K":
                self.pid = int.from_bytes(message.body[:4], "big")
                self.key = message.body[4:]
            seen.append(message)
        return seen

    def _answer(self, body: bytes, password: str, scram: Scram) -> None:
        code = int.from_bytes(body[:4], "big")
        if code == 3:
            self.send(pgbytes.message("p", pgbytes.cstring(password)))
        elif code == 10:
            first = scram.first()
            start = pgbytes.cstring("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first
            self.send(pgbytes.message("p", start))
        elif code == 11:
            self.send(pgbytes.message("p", scram.final(body[4:])))
        elif code == 12 and not scram.proven(body[4:]):
            raise Hangup("the server does not know the password itself")
        elif code not in (0, 12):
            raise Hangup(f"the server asks for authentication {code}")

    def query(self, sql: str) -> list[tuple[str | None, ...]]:
        """
        Run statements as text and give their rows.

        @raise ServerError: an error came
        @raise Hangup: the connection ended
        """
        self.send(pgbytes.query(sql))
        messages = self.read_until("Z")
        for message in messages:
            if message.kind == "E":
                raise ServerError(message)
        if not messages or messages[-1].kind != "Z":
            raise Hangup(f"the connection ended during {sql[:60]!r}")
        return [message.columns() for message in messages if message.kind == "D"]

    def value(self, sql: str) -> str | None:
        """The one value that a statement gives; as L{query}."""
        ((value,),) = self.query(sql)
        return value

    def cancel(self, pid: int | None = None, key: bytes | None = None) -> None:
        """
        Ask, on a connection of its own and inside TLS where this one is, to cancel
        what runs here; waits until the server closes it.
        """
        with WireClient(self.host, self.port, seconds=self.seconds) as other:
            if self.context is not None:
                other.start_tls(self.context)
            other.send(pgbytes.cancel(pid or self.pid, self.key if key is None else key))
            other.read_to_end()


class Scram:
    """The client's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._nonce = secrets.token_urlsafe(18)
        self._server_signature = b""

    def first(self) -> bytes:
        """client-first-message."""
        return f"n,,n=,r={self._nonce}".encode()

    def final(self, challenge: bytes) -> bytes:
        """client-final-message, for a server-first-message."""
        words = dict(part.split("=", 1) for part in challenge.decode().split(","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", self._password, base64.b64decode(words["s"]), int(words["i"])
        )
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={words['r']}"
        spoken = f"n=,r={self._nonce},{challenge.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), spoken, "sha256")
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self._server_signature = hmac.digest(server_key, spoken, "sha256")
        proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def proven(self, last: bytes) -> bool:
        """Whether a server-final-message proves that the server knows the password."""
        return last == b"v=" + base64.b64encode(self._server_signature)


def trusting_context() -> ssl.SSLContext:
    """A TLS client that takes any certificate, as C{sslmode=require} does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
