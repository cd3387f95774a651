"""
Servers that mean harm: what they can do to whoever logs in to them, which is nothing.

Each is reached by real sockets, by the pool's account and by a check of a
client's password. Whatever it says, the login ends as a failure that can be
told, within its time and a few hundred kilobytes, and nothing is left of it.
Numbers are those of vulnerabilities that others had in this place.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogLevel
from zope.interface import implementer

from proxyd.errors import DialError, DialFailure
from proxyd.postgres.answers import Fatal, Refused, login_refused
from proxyd.postgres.server import Account
from proxyd.services.logs import escaped
from proxyd.target import Target
from proxyd.wire.pg.login import LOGIN_LIMIT, Unchallenged
from tests.postgres import fakeserver
from tests.postgres.client import until
from tests.postgres.fakeserver import Backend, authentication, error, message, ready, text
from tests.postgres.scene import ANN, SERVICE, SceneTestCase

Login = Callable[[Backend], None]
CHECKED = Account("svc", b"service-secret", challenged=True)
NOTICE = message(b"N", b"SNOTICE\0M" + b"x" * 1000 + b"\0\0")
SASL = authentication(10, text("SCRAM-SHA-256") + b"\0")


@implementer(IPullProducer)
class Flood:
    """Sends the same thing as long as anybody takes it."""

    def __init__(self, backend: Backend, flight: bytes) -> None:
        self._backend = backend
        self._flight = flight
        self.sent = 0
        backend.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """More is taken."""
        self.sent += len(self._flight)
        self._backend.write(self._flight)

    def stopProducing(self) -> None:
        """It was hung up on."""


class Mute(Protocol):
    """A server that says so much, once it was spoken to, and no more."""

    heard = over = False

    def connectionMade(self) -> None:
        """Somebody is there."""
        self.factory.seen.append(self)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """It was spoken to."""
        if not self.heard:
            self.transport.write(self.factory.said)  # type: ignore[union-attr]
        self.heard = True

    def connectionLost(self, reason: object = None) -> None:
        """It was hung up on."""
        self.over = True


def saying(*flights: bytes) -> Login:
    """Say this, whatever was said."""

    def say(backend: Backend) -> None:
        backend.write(b"".join(flights))

    return say


def challenging(challenge: Callable[[bytes], bytes]) -> Login:
    """Begin SCRAM, and answer the client's first words (its nonce) with this."""

    def begin(backend: Backend) -> None:
        def first(given: bytes) -> None:
            nonce = given.partition(b",r=")[2]
            backend.write(authentication(11, challenge(nonce)))
            backend.on_password = lambda _: None

        backend.on_password = first
        backend.write(SASL)

    return begin


def scram(nonce: bytes, salt: bytes = b"c2FsdA==", count: bytes = b"4096") -> bytes:
    """A server-first-message."""
    return b"r=" + nonce + b",s=" + salt + b",i=" + count


LIARS: dict[str, Login] = {
    "an HTTP server": saying(b"HTTP/1.1 200 OK\r\n\r\n"),
    "zeros": saying(bytes(10_000)),
    "a message of a gigabyte": saying(b"R\x3f\xff\xff\xff"),
    "a message of a negative length": saying(b"R\xff\xff\xff\xff"),
    "a length of nothing": saying(b"R\0\0\0\0"),
    "ready before anybody was let in": saying(ready()),
    "parameters before anybody was let in": saying(message(b"S", text("a") + text("b"))),
    "a key before anybody was let in": saying(message(b"K", pack("!ii", 1, 2))),
    "a row before anybody was let in": saying(fakeserver.row("x")),
    "let in twice": saying(authentication(0), authentication(0)),
    "ready in a transaction": saying(authentication(0), ready("T")),
    "two keys": saying(authentication(0), message(b"K", pack("!ii", 1, 2)) * 2),
    "a key that is none": saying(authentication(0), message(b"K", pack("!i", 1))),
    "a key too long": saying(authentication(0), message(b"K", pack("!i", 1) + bytes(257))),
    "half a parameter": saying(authentication(0), message(b"S", b"half")),
    "something behind ready": saying(authentication(0), ready(), ready()),
    "another version": saying(message(b"v", pack("!ii", 0x30002, 0)), authentication(0), ready()),
    "Kerberos": saying(authentication(2)),
    "GSSAPI": saying(authentication(7)),
    "SSPI": saying(authentication(9)),
    "an unknown way": saying(authentication(77)),
    "md5 without a salt": saying(authentication(5)),
    "md5, twice": saying(authentication(5, b"salt"), authentication(5, b"salt")),
    "a password in clear": saying(authentication(3)),
    "SASL without a mechanism": saying(authentication(10, b"\0")),
    "another SASL mechanism": saying(authentication(10, text("PLAIN") + b"\0")),
    "SASL, then clear text": challenging(lambda nonce: b""),
    "the end of SASL at once": saying(authentication(12, b"v=AAAA")),
    "a nonce that is not ours": challenging(lambda nonce: scram(b"x" * 40)),
    "a nonce with nothing of the server's": challenging(scram),
    "a nonce shorter than ours": challenging(lambda nonce: scram(nonce[:-1])),
    "a nonce of 200 kB (CVE-2026-6665)": challenging(lambda nonce: scram(nonce + b"x" * 200_000)),
    "a nonce of a megabyte (CVE-2026-6665)": challenging(lambda nonce: scram(nonce + b"x" * 10**6)),
    "no salt": challenging(lambda nonce: scram(nonce + b"x", b"")),
    "a salt that is no base64": challenging(lambda nonce: scram(nonce + b"x", b"a*b=")),
    "no iterations": challenging(lambda nonce: scram(nonce + b"x", count=b"0")),
    "iterations that are no number": challenging(lambda nonce: scram(nonce + b"x", count=b"-1")),
    "ten million iterations": challenging(lambda nonce: scram(nonce + b"x", count=b"10000000")),
    "a huge number of iterations": challenging(
        lambda nonce: scram(nonce + b"x", count=b"9" * 100_000)
    ),
    "an extension": challenging(lambda nonce: b"m=x," + scram(nonce + b"x")),
    "the wrong proof": fakeserver.scram_lying,
    "no proof": fakeserver.scram_unproved,
}
"""By what each does. None knows the password, and none is let in to anything."""


def flooding(flight: bytes, floods: list[Flood]) -> Login:
    """Say this for ever; what is said it with is put into a list."""
    return lambda backend: floods.append(Flood(backend, flight))


class HostileServerTests(SceneTestCase):
    """Logins to servers that mean harm."""

    timeout = 120

    def begin(self, login: Login, account: Account = SERVICE) -> Deferred[object]:
        """Begin to log in to a server of this kind."""
        self.fake.login = login
        behind = self.server(self.connection())
        return Deferred.fromCoroutine(behind.login(account, "shop", {}, ANN))

    async def failure(self, login: Login, account: Account = SERVICE) -> Exception:
        """How it fails; nothing is left of it."""
        logging_in = self.begin(login, account)
        logging_in.addErrback(lambda failure: failure)
        await until(lambda: logging_in.called, "the login to end")
        try:
            await logging_in
        except (DialError, Refused, Unchallenged) as failed:
            await until(lambda: self.link.ends == 0, "the connection to be dropped")
            return failed
        return self.fail("the login succeeded")

    async def test_liars(self) -> None:
        """Each is refused, for the pool and where a password is checked; none learns it."""
        for account in (SERVICE, CHECKED):
            for name, login in LIARS.items():
                failed = await self.failure(login, account)
                self.assertIsInstance(failed, (DialError, Unchallenged), name)
                self.assertNotIn("service-secret", str(failed), name)
        for seen in self.fake.seen:
            self.assertNotIn(b"service-secret", seen._buffer + repr(seen.said).encode())

    async def test_floods(self) -> None:
        """Whoever never comes to an end is cut at the limit: nothing grows, nothing is kept."""
        for flight in (
            NOTICE * 20,
            authentication(0) + message(b"S", text("name") + text("x" * 1000)) * 20,
            authentication(0) + NOTICE * 20,
            b"N" + pack("!i", LOGIN_LIMIT + 5) + b"x" * 20_000,
        ):
            floods: list[Flood] = []
            failed = await self.failure(flooding(flight, floods))
            assert isinstance(failed, DialError), failed
            self.assertIs(failed.failure, DialFailure.BROKEN)
            # What was read, and what stood in the buffers of two sockets.
            self.assertLess(floods[0].sent, LOGIN_LIMIT + 16 * 1024 * 1024)

    async def test_drops(self) -> None:
        """One that sends a byte now and then is given up at connect_timeout all the same."""
        drip = iter(NOTICE * 1000)
        logging_in = self.begin(lambda backend: None)
        logging_in.addErrback(lambda failure: failure.value)
        await until(lambda: self.fake.startups, "the start-up packet")
        while not logging_in.called:
            self.fake.seen[-1].write(bytes([next(drip)]))
            await until(lambda: True, "the reactor")
            self.clock.advance(0.5)
        failed: object = await logging_in
        assert isinstance(failed, DialError), failed
        self.assertIs(failed.failure, DialFailure.TIMEOUT)
        self.assertLess(self.clock.seconds(), 12.0)
        await until(lambda: self.link.ends == 0, "the connection to be dropped")

    async def test_silence(self) -> None:
        """Silence at any step is given up at connect_timeout: before TLS, and in it."""
        for said in (b"", b"S", b"S\x16\x03\x03\x00\x7a\x02"):
            silent: list[Mute] = []
            factory = Factory.forProtocol(Mute)
            factory.said, factory.seen, factory.noisy = said, silent, False
            port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
            for direct in ("postgres", "direct"):
                dsn = self.dsn(
                    hosts=(Target("127.0.0.1", port.getHost().port),),
                    sslmode="require",
                    parameters={"sslnegotiation": direct},
                )
                behind = self.server(self.connection(dsn=dsn))
                del silent[:]
                logging_in = Deferred.fromCoroutine(behind.login(SERVICE, "shop", {}, ANN))
                ended = logging_in.addErrback(lambda failure: failure.value)
                await until(lambda seen=silent: seen and seen[0].heard, "our first words")  # type: ignore[misc]
                if said[1:] and direct == "direct":
                    # A handshake that begins with an S is none, and ends at once.
                    await until(lambda over=ended: over.called, "the end")  # type: ignore[misc]
                self.clock.advance(10.1)
                failed: object = await ended
                assert isinstance(failed, DialError), failed
                await until(lambda: self.link.ends == 0, "the connection to be dropped")
            await port.stopListening()
            await until(lambda seen=silent: all(one.over for one in seen), "its end")  # type: ignore[misc]

    async def test_words_of_a_stranger(self) -> None:
        """
        What is said before the login reaches no client, and no line of the log but its own.

        (CVE-2024-10977: libpq shows such words as the server's.)
        """
        words = "no\r\n2026-01-01 FATAL: send your password to \x1b[31mevil.example"
        failed = await self.failure(fakeserver.refusing("28000", words))
        assert isinstance(failed, Refused), failed
        told = login_refused(failed.error, failed.authenticated, "ann").encode()
        self.assertNotIn(b"evil", told)
        line = escaped(str(failed))
        self.assertNotIn("\n", line)
        self.assertNotIn("\x1b", line)

    async def test_without_fields(self) -> None:
        """An ErrorResponse without SQLSTATE, or with nothing at all (CVE-2026-6666)."""
        for said in (error(None, "no"), message(b"E", b"\0"), message(b"E", b"SFATAL\0\0")):
            failed = await self.failure(saying(said))
            assert isinstance(failed, Refused), failed
            self.assertEqual(failed.error.sqlstate, "XX000")
            fatal = login_refused(failed.error, failed.authenticated, "ann")
            self.assertIsInstance(fatal, Fatal)

    async def test_salted_in_a_thread(self) -> None:
        """A hundred thousand iterations don't hold up the reactor: they run in a thread."""
        threads: list[int] = []
        self.clock.getThreadPool = lambda: Pool(threads)  # type: ignore[attr-defined]
        login = challenging(lambda nonce: scram(nonce + b"x", count=b"100000"))
        logging_in = self.begin(login)
        await until(lambda: threads, "the work to be given to a thread")
        self.assertFalse(logging_in.called)
        logging_in.addErrback(lambda _: None)
        logging_in.cancel()
        await until(lambda: self.link.ends == 0, "the connection to be dropped")
        self.assertEqual(self.logged(LogLevel.critical), [])


class Pool:
    """A thread pool that only notes what it was given."""

    def __init__(self, given: list[int]) -> None:
        self._given = given

    def callInThreadWithCallback(self, *work: object) -> None:
        """Work comes."""
        self._given.append(1)
