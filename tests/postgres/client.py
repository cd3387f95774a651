"""A PostgreSQL client in the reactor, which sends any bytes and hides nothing."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions

from tests.support import pgbytes
from tests.support.wireclient import Message

SECONDS = 30.0
LOOK_SECONDS = 0.002


async def until(check: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """
    Let the reactor run until a condition holds.

    @param what: what is waited for, in words for the failure
    @raise AssertionError: it does not hold within so many seconds
    """
    end = reactor.seconds() + seconds
    while not check():
        if reactor.seconds() > end:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        turn: Deferred[None] = Deferred()
        reactor.callLater(LOOK_SECONDS, turn.callback, None)
        await turn


class Client(Protocol):
    """
    One client connection.

    @ivar received: bytes that were not read yet
    @ivar ended: the other side closed, or the connection was lost
    @ivar pid: the process number of BackendKeyData, with its C{key}
    @ivar parameters: what ParameterStatus told last
    """

    def __init__(self) -> None:
        self.received = b""
        self.ended = False
        self.pid = 0
        self.key = b""
        self.parameters: dict[str, str] = {}

    @classmethod
    async def connect(cls, port: int) -> Client:
        """A client of a port of 127.0.0.1."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        client: Client = await endpoint.connect(Factory.forProtocol(cls))
        return client

    def dataReceived(self, data: bytes) -> None:
        """Keep what came."""
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        """It is over."""
        self.ended = True

    def send(self, data: bytes) -> None:
        """Send any bytes."""
        self.transport.write(data)

    def close(self) -> None:
        """Close without a word."""
        self.transport.loseConnection()

    def reset(self) -> None:
        """Break the connection."""
        self.transport.abortConnection()

    async def finish(self) -> None:
        """Say that no more is sent, but read on."""
        handle: socket.socket = self.transport.getHandle()
        handle.shutdown(socket.SHUT_WR)

    async def bytes(self, count: int) -> bytes:
        """Exactly so many bytes; fewer at the end of the connection."""
        await until(lambda: len(self.received) >= count or self.ended, f"{count} bytes")
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    async def message(self) -> Message | None:
        """The next message; None at the end of the connection."""
        header = await self.bytes(5)
        if len(header) < 5:
            return None
        (length,) = struct.unpack_from("!i", header, 1)
        message = Message(chr(header[0]), await self.bytes(length - 4))
        if message.kind == "S":
            name, value = message.strings()
            self.parameters[name] = value
        elif message.kind == "K":
            self.pid = int.from_bytes(message.body[:4], "big", signed=True)
            self.key = message.body[4:]
        return message

    async def read(self, kinds: str = "Z") -> list[Message]:
        """Messages up to and with these kinds, in this order; C{$} is the end."""
        messages: list[Message] = []
        left = list(kinds)
        while left:
            message = await self.message()
            if message is None:
                return messages
            messages.append(message)
            if message.kind == left[0]:
                del left[0]
        return messages

    async def trace(self, kinds: str = "Z") -> str:
        """The kinds of what comes up to these, with errors as C{E[SQLSTATE]}."""
        return "".join(
            f"E[{message.fields().get('C')}]" if message.kind == "E" else message.kind
            for message in await self.read(kinds)
        )

    async def words(self, kinds: str = "$") -> dict[str, str]:
        """The fields of the one error there is in what comes up to these kinds."""
        (found,) = [message for message in await self.read(kinds) if message.kind == "E"]
        return found.fields()

    async def start_tls(self) -> None:
        """Ask for TLS, and begin it; any certificate will do."""
        self.send(pgbytes.SSL_REQUEST)
        answer = await self.bytes(1)
        if answer != b"S":
            raise AssertionError(f"SSLRequest was answered by {answer!r}")
        self.transport.startTLS(CertificateOptions())

    def start(self, user: str, database: str, **settings: str) -> None:
        """Send the start-up packet."""
        self.send(pgbytes.startup({"user": user, "database": database, **settings}))

    def password(self, password: str | bytes) -> None:
        """Send the password."""
        self.send(pgbytes.message("p", pgbytes.cstring(password)))
