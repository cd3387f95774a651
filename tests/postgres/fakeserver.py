"""
A PostgreSQL server by script: real sockets, and any manner a server may have.

It speaks the wire from PostgreSQL's chapter "Message Formats" alone, and knows
a handful of words instead of SQL (L{Backend.query}). How it logs people in,
what it answers to a text, and whether it tells cancel keys is the test's to
say. Everything it was told is kept, to be looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from struct import pack, unpack_from

from OpenSSL import SSL as OpenSSL
from OpenSSL import crypto
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IAddress, IListeningPort, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from tests.net.authority import Pair, made
from tests.wire.pg.scram_server import ScramServer

SSL, GSSENC, CANCEL = 80877103, 80877104, 80877102

SET_CONFIG = pack("!i", 2078)
"""How a FunctionCall of pg_catalog.set_config begins."""

PARAMETERS = {
    "server_version": "15.99",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "TimeZone": "Etc/UTC",
    "application_name": "",
    "is_superuser": "off",
}


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Any message of a server's."""
    return kind + pack("!i", len(body) + 4) + body


def text(value: str) -> bytes:
    """A string as messages carry it."""
    return value.encode("utf-8", "surrogateescape") + b"\0"


def authentication(code: int, data: bytes = b"") -> bytes:
    """An Authentication message."""
    return message(b"R", pack("!i", code) + data)


def error(
    sqlstate: str | None, words: str, severity: str = "ERROR", detail: str = "", hint: str = ""
) -> bytes:
    """An ErrorResponse; without an SQLSTATE when there is none."""
    fields = [("S", severity), ("V", severity), ("M", words)]
    fields += [("C", sqlstate)] if sqlstate else []
    fields += [(letter, said) for letter, said in (("D", detail), ("H", hint)) if said]
    return message(b"E", b"".join(letter.encode() + text(said) for letter, said in fields) + b"\0")


def complete(tag: str) -> bytes:
    """CommandComplete."""
    return message(b"C", text(tag))


def ready(status: str = "I") -> bytes:
    """ReadyForQuery."""
    return message(b"Z", status.encode())


def row(*values: str) -> bytes:
    """RowDescription and one DataRow of text."""
    columns = b"".join(text("c") + pack("!ihihih", 0, 0, 25, -1, -1, 0) for _ in values)
    data = b"".join(pack("!i", len(value.encode())) + value.encode() for value in values)
    count = pack("!h", len(values))
    return message(b"T", count + columns) + message(b"D", count + data)


def trust(backend: Backend) -> None:
    """Let everybody in without a question."""
    backend.accept()


def cleartext(backend: Backend) -> None:
    """Ask for the password in clear."""
    backend.write(authentication(3))
    backend.on_password = lambda given: backend.decide(given == backend.wanted + b"\0")


def md5(backend: Backend) -> None:
    """Ask for the password by md5."""
    backend.write(authentication(5, b"salt"))
    inner = hashlib.md5(backend.wanted + backend.user.encode()).hexdigest().encode()
    right = b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode() + b"\0"
    backend.on_password = lambda given: backend.decide(given == right)


def scram(
    backend: Backend, *, lie: bool = False, early: bool = False, binding: bytes = b""
) -> None:
    """
    Ask for the password by SCRAM-SHA-256.

    @param lie: sign with what no server that knows the password would sign with
    @param early: say AuthenticationOk without any proof
    @param binding: offer channel binding, too, with these data
    """
    half = ScramServer(backend.wanted, binding)
    offered = [text("SCRAM-SHA-256-PLUS")] if binding else []

    def final(given: bytes) -> None:
        signature = half.final(given)
        if signature is None:
            backend.decide(False)
            return
        if not early:
            backend.write(authentication(12, b"v=AAAA" if lie else signature))
        backend.accept()

    def first(given: bytes) -> None:
        mechanism, _, initial = given.partition(b"\0")
        backend.mechanism = mechanism.decode()
        backend.write(authentication(11, half.first(initial[4:])))
        backend.on_password = final

    offered.append(text("SCRAM-SHA-256"))
    backend.write(authentication(10, b"".join(offered) + b"\0"))
    backend.on_password = first


def scram_lying(backend: Backend) -> None:
    """SCRAM whose last proof is wrong."""
    scram(backend, lie=True)


def scram_unproved(backend: Backend) -> None:
    """SCRAM that is begun, and then let in without the server's proof."""
    scram(backend, early=True)


def silent(backend: Backend) -> None:
    """Never answer the start-up packet."""


def hang_up(backend: Backend) -> None:
    """Close in the middle of the login."""
    backend.transport.loseConnection()


def garbage(backend: Backend) -> None:
    """Answer with what is no PostgreSQL."""
    backend.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def refusing(sqlstate: str | None, words: str, after: bool = False) -> Callable[[Backend], None]:
    """
    Say no.

    @param after: only after the password was found right
    """

    def refuse(backend: Backend) -> None:
        said = error(sqlstate, words, "FATAL")
        if not after:
            backend.write(said)
            backend.transport.loseConnection()
            return
        backend.write(authentication(3))

        def given(_: bytes) -> None:
            backend.write(authentication(0) + said)
            backend.transport.loseConnection()

        backend.on_password = given

    return refuse


class FakeServer:
    """
    The server: where it listens, how it behaves, what it saw.

    @ivar login: what is done with a start-up packet
    @ivar passwords: by user; anybody else's is wrong
    @ivar answers: what a Query of this text is answered with, instead of what
        L{Backend.query} knows
    @ivar keys: whether BackendKeyData is sent
    @ivar tls: whether TLS is offered
    @ivar alpn: whether it says in TLS that it is PostgreSQL, as 17 and newer do
    @ivar pair: the certificate that it shows; None: one that nobody signed
    @ivar names: which server each handshake named (SNI)
    @ivar key_bytes: how long its cancel keys are
    @ivar backends: the logged-in connections that are open
    @ivar seen: every connection there ever was, cancel requests too
    @ivar startups: the parameters of each start-up packet
    @ivar cancels: process numbers of the cancel requests
    @ivar hold_cancels: leave cancel requests standing, see L{let_cancels_go}
    @ivar committed: texts executed in extended batches that were synced
    @ivar terminates: how many said goodbye in order
    """

    def __init__(self) -> None:
        self.login: Callable[[Backend], None] = scram
        self.passwords: dict[str, bytes] = {"svc": b"service-secret"}
        self.answers: dict[str, Callable[[Backend], None] | bytes] = {}
        self.parameters = dict(PARAMETERS)
        self.keys = True
        self.tls = False
        self.alpn = False
        self.pair: Pair | None = None
        self.key_bytes = 4
        self.names: list[bytes | None] = []
        self.backends: list[Backend] = []
        self.seen: list[Backend] = []
        self.startups: list[dict[str, str]] = []
        self.cancels: list[int] = []
        self.hold_cancels = False
        self.held: list[Backend] = []
        self.committed: list[str] = []
        self.terminates = 0
        self.host = "127.0.0.1"
        self.port = 0
        self._listening: IListeningPort | None = None
        self._options: object = None
        self._closed: list[Deferred[None]] = []

    async def start(self) -> None:
        """Listen on L{port} of L{host}; on a free one if that is 0."""
        factory = _Backends(self)
        endpoint = TCP4ServerEndpoint(reactor, self.port, interface=self.host)
        self._listening = await endpoint.listen(factory)
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Listen no more, and reset every connection."""
        if self._listening is not None:
            stopping = self._listening.stopListening()
            self._listening = None
            if stopping is not None:
                await stopping
        for backend in list(self.seen):
            backend.reset()

    @property
    def open(self) -> int:
        """How many connections of any kind are open."""
        return sum(not backend.over for backend in self.seen)

    def certificate(self) -> object:
        """What TLS is spoken with."""
        if self._options is None:
            pair = self.pair or made("127.0.0.1", names=("127.0.0.1",))
            self._options = _Tls(pair, self.alpn, self.names)
        return self._options

    def let_cancels_go(self) -> None:
        """Do what the cancel requests that were held asked for, and close them."""
        held, self.held = self.held, []
        for connection in held:
            connection.obey()


@implementer(IOpenSSLServerConnectionCreator)
class _Tls:
    """TLS with a certificate."""

    def __init__(self, pair: Pair, alpn: bool, names: list[bytes | None]) -> None:
        self._context = OpenSSL.Context(OpenSSL.TLS_SERVER_METHOD)
        self._context.use_certificate(crypto.X509.from_cryptography(pair.certificate))
        self._context.use_privatekey(crypto.PKey.from_cryptography_key(pair.key))
        self._context.set_tlsext_servername_callback(
            lambda connection: names.append(connection.get_servername())
        )
        if alpn:
            self._context.set_alpn_select_callback(lambda _, offered: offered[0])

    def serverConnectionForTLS(self, protocol: object) -> OpenSSL.Connection:
        """What Twisted asks for."""
        return OpenSSL.Connection(self._context, None)


class _Backends(Factory):
    """Makes a L{Backend} of each connection."""

    noisy = False

    def __init__(self, server: FakeServer) -> None:
        self.server = server

    def buildProtocol(self, addr: IAddress) -> Backend:
        """A client of the fake server is there."""
        return Backend(self.server)


class Backend(Protocol):
    """
    One connection to the fake server.

    @ivar said: C{(kind, body)} of all messages after the login
    @ivar status: its transaction status
    @ivar working: C{SLEEP} or C{HANG} while it works on that
    @ivar secure: whether it goes by TLS
    @ivar version: the protocol that it was asked for
    @ivar mechanism: by which SASL mechanism the client logged in
    @ivar over: it is closed
    """

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.over = False
        self.user = ""
        self.database = ""
        self.pid = 0
        self.key = b""
        self.said: list[tuple[str, bytes]] = []
        self.status = "I"
        self.secure = False
        self.version = 0
        self.mechanism = ""
        self.working = ""
        self.copying = False
        self.on_password: Callable[[bytes], None] | None = None
        self._buffer = b""
        self._started = False
        self._failed = False
        self._extending = False
        self._batch: list[str] = []
        self._statement = ""
        self._values: list[str] = []
        self._target = 0

    @property
    def queries(self) -> list[str]:
        """The texts of all Query messages so far."""
        return [body[:-1].decode() for kind, body in self.said if kind == "Q"]

    @property
    def wanted(self) -> bytes:
        """The right password of this user; one that nobody can know for an unknown user."""
        return self.server.passwords.get(self.user, b"\1nobody knows this\1")

    def connectionMade(self) -> None:
        """Somebody connected."""
        self.server.seen.append(self)

    def connectionLost(self, reason: object = None) -> None:
        """It is over; a batch that was not synced is not committed."""
        self.over = True
        if self in self.server.backends:
            self.server.backends.remove(self)

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        self._buffer += data
        while self._step():
            pass

    def write(self, data: bytes) -> None:
        """Send."""
        self.transport.write(data)

    def reset(self) -> None:
        """Break the connection."""
        if not self.over:
            self.transport.abortConnection()

    def fatal(self, sqlstate: str = "57P01", words: str = "terminating connection") -> None:
        """Say FATAL and close, as at a shutdown."""
        self.write(error(sqlstate, words, "FATAL"))
        self.transport.loseConnection()

    # -- the login

    def accept(self) -> None:
        """Let the client in."""
        server = self.server
        self.pid = 1000 + len(server.seen)
        self.key = pack("!i", 77000 + self.pid) * (server.key_bytes // 4)
        said = authentication(0)
        for name, value in server.parameters.items():
            said += message(b"S", text(name) + text(value))
        if server.keys:
            said += message(b"K", pack("!i", self.pid) + self.key)
        self.write(said + ready())
        self.on_password = None
        server.backends.append(self)

    def decide(self, right: bool) -> None:
        """Let the client in, or tell it that the password is wrong."""
        if right:
            self.accept()
            return
        words = f'password authentication failed for user "{self.user}"'
        self.write(error("28P01", words, "FATAL"))
        self.transport.loseConnection()

    # -- reading

    def _step(self) -> bool:
        """Take one packet or message, if it is whole."""
        buffer = self._buffer
        if not self._started:
            if buffer[:1] == b"\x16" and self.server.tls and not self.secure:
                self._begin_tls(buffer)
                return False
            if len(buffer) < 8:
                return False
            length, code = unpack_from("!ii", buffer)
            if len(buffer) < length:
                return False
            self._buffer = buffer[length:]
            self._packet(code, buffer[8:length])
            return True
        if self.working or len(buffer) < 5:
            # A server that works reads on when it is done.
            return False
        (length,) = unpack_from("!i", buffer, 1)
        if len(buffer) < length + 1:
            return False
        self._buffer = buffer[length + 1 :]
        self._message(chr(buffer[0]), buffer[5 : length + 1])
        return True

    def _begin_tls(self, hello: bytes = b"") -> None:
        """Begin TLS, with what came of the handshake already."""
        self.secure = True
        self._buffer = b""
        self.transport.startTLS(self.server.certificate())
        if hello:
            self.transport.protocol.dataReceived(hello)

    def _packet(self, code: int, body: bytes) -> None:
        if code == SSL:
            self.write(b"S" if self.server.tls else b"N")
            if self.server.tls:
                self._begin_tls()
            return
        self.version = code
        self._started = True
        if code == CANCEL:
            self._target = unpack_from("!i", body)[0]
            self.key = body[4:]
            self.server.cancels.append(self._target)
            if self.server.hold_cancels:
                self.server.held.append(self)
            else:
                self.obey()
            return
        words = [word.decode("utf-8", "surrogateescape") for word in body.split(b"\0")[:-2]]
        parameters = dict(zip(words[::2], words[1::2], strict=True))
        self.server.startups.append(parameters)
        self.user, self.database = parameters["user"], parameters.get("database", "")
        self.server.login(self)

    def obey(self) -> None:
        """Do what a cancel request asks for, and close its connection."""
        for backend in self.server.backends:
            right = backend.pid == self._target and backend.key == self.key
            if right and backend.working == "SLEEP":
                backend.wake(error("57014", "canceling statement due to user request"))
        if not self.over:
            self.transport.loseConnection()

    def wake(self, said: bytes) -> None:
        """End the statement that sleeps, with an error."""
        self.working = ""
        self._failed = self._extending
        self.status = "E" if self.status in "TE" else "I"
        self.write(said if self._extending else said + ready(self.status))
        while self._step():
            pass

    def _message(self, kind: str, body: bytes) -> None:
        if self.on_password is not None:
            self.on_password(body)
            return
        self.said.append((kind, body))
        if kind == "X":
            self.server.terminates += 1
            self.transport.loseConnection()
        elif self.copying:
            self._copy(kind)
        elif kind == "Q":
            self.query(body[:-1].decode("utf-8", "surrogateescape"))
        elif kind in "PBDECHS":
            self._extended(kind, body)
        elif kind == "F" and body.startswith(SET_CONFIG):
            self._call(values_of(body[4:])[:2])
        elif kind == "F":
            self.write(message(b"V", pack("!i", -1)) + ready(self.status))

    # -- what it knows

    def query(self, said: str) -> None:
        """
        Answer a Query: C{BEGIN}, C{COMMIT}, C{ROLLBACK}, C{DISCARD ALL}, the empty
        text, C{BAD} (an error), C{SLEEP} (until it is cancelled), C{HANG} (for
        ever), C{DIE}, C{HALF} (a row that never ends), C{COPY} (from stdin),
        C{COPY OUT} (that never ends); to anything else one row with the text.
        """
        answer = self.server.answers.get(said)
        if callable(answer):
            answer(self)
        elif answer is not None:
            self.write(answer)
        elif said in ("BEGIN", "COMMIT", "ROLLBACK"):
            self.status = "T" if said == "BEGIN" else "I"
            self.write(complete(said) + ready(self.status))
        elif said == "DISCARD ALL":
            self.write(complete(said) + ready(self.status))
        elif said == "":
            self.write(message(b"I") + ready(self.status))
        elif said in ("SLEEP", "HANG"):
            self.working = said
        elif said == "DIE":
            self.reset()
        elif said == "HALF":
            self.write(row("x") + b"D" + pack("!i", 1000) + bytes(100))
        elif said == "COPY":
            self.copying = True
            self.write(message(b"G", b"\0\0\0"))
        elif said == "COPY OUT":
            self.write(message(b"H", b"\0\0\0") + message(b"d", b"row\n"))
            self.working = "SLEEP"
        elif said == "BAD":
            self.status = "E" if self.status in "TE" else "I"
            self.write(error("42601", "syntax error") + ready(self.status))
        else:
            self.write(row(said) + complete("SELECT 1") + ready(self.status))

    def _copy(self, kind: str) -> None:
        if kind == "c":
            self.copying = False
            self.write(complete("COPY 1") + ready(self.status))
        elif kind == "f":
            self.copying = False
            self.status = "E" if self.status in "TE" else "I"
            self.write(error("57014", "COPY from stdin failed") + ready(self.status))

    def _extended(self, kind: str, body: bytes) -> None:
        self._extending = kind != "S"
        if kind == "S":
            if not self._failed:
                self.server.committed += self._batch
            self._batch, self._failed = [], False
            self.write(ready(self.status))
        elif self._failed or kind == "H":
            return
        elif kind == "P":
            self._statement = body.split(b"\0")[1].decode()
            self.write(message(b"1"))
        elif kind == "B":
            self._values = values_of(body.split(b"\0", 2)[2])
            self.write(message(b"2"))
        elif kind == "D":
            self.write(message(b"n"))
        elif kind == "C":
            self.write(message(b"3"))
        elif self._statement == "SLEEP":
            self.working = "SLEEP"
        else:
            self._execute()

    def _execute(self) -> None:
        if "set_config" not in self._statement:
            self._batch.append(self._statement)
            self.write(complete("INSERT 0 1"))
            return
        if self._set(self._values):
            self.write(complete("SELECT 1"))
        else:
            self._failed = True

    def _call(self, values: list[str]) -> None:
        if self._set(values):
            self.write(message(b"V", pack("!i", 1) + b"x"))
        self.write(ready(self.status))

    def _set(self, values: list[str]) -> bool:
        """Make settings; whether they could be made."""
        pairs = list(zip(values[::2], values[1::2], strict=True))
        for name, value in pairs:
            if value == "bad":
                self.write(error("22023", f'invalid value for parameter "{name}": "bad"'))
                return False
        for name, value in pairs:
            reported = {known.lower(): known for known in self.server.parameters}.get(name)
            if reported is not None:
                shown = "ISO, DMY" if value == "iso, dmy" else value
                self.write(message(b"S", text(reported) + text(shown)))
        return True


def values_of(body: bytes) -> list[str]:
    """The values of a Bind message behind its names, or of a FunctionCall behind its number."""
    at = 0
    (formats,) = unpack_from("!h", body, at)
    at += 2 + 2 * formats
    (count,) = unpack_from("!h", body, at)
    at += 2
    values = []
    for _ in range(count):
        (size,) = unpack_from("!i", body, at)
        values.append(body[at + 4 : at + 4 + size].decode("utf-8", "surrogateescape"))
        at += 4 + size
    return values
