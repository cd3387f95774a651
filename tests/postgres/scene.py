"""
A scene for tests: a scripted server behind, proxyd's parts, and clients in front.

Sockets are real and the reactor is the process's own; time is a
L{Clock<twisted.internet.task.Clock>} that only the test moves. Every scene
ends by waiting until the link carries nothing any more.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from functools import cache
from ipaddress import ip_network
from tempfile import TemporaryDirectory

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from proxyd.config.model import Connection, Dsn, Listener, Log, Network, Postgres, PostgresTls
from proxyd.config.secrets import Secret
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IDialer
from proxyd.net.link import Link
from proxyd.net.tls import server_context
from proxyd.postgres.directory import Directory
from proxyd.postgres.listener import PostgresListener
from proxyd.postgres.pool import Pool
from proxyd.postgres.pools import Pools, accounts_of
from proxyd.postgres.server import Account, Server
from proxyd.target import Principal, Target
from tests.net.authority import made
from tests.postgres.client import Client, until
from tests.postgres.fakeserver import Backend, FakeServer
from tests.postgres.tokens import known_tokens

LINGER = 5.0
ANN = Principal("ann", "192.0.2.9")
SERVICE = Account("svc", b"service-secret")


@implementer(IDialer)
class Dialer:
    """Dials what it is told, and remembers it."""

    def __init__(self) -> None:
        self.dialled: list[Target] = []
        self.for_whom: list[Principal] = []

    def endpoint_for(self, target: Target, principal: Principal) -> IStreamClientEndpoint:
        """The direct way."""
        self.dialled.append(target)
        self.for_whom.append(principal)
        return _Way(target)


@implementer(IStreamClientEndpoint)
class _Way:
    """A TCP endpoint that fails in the words of the interface."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect."""

        def failed(failure: Failure) -> Failure:
            return Failure(DialError(DialFailure.REFUSED, str(self._target)))

        endpoint = TCP4ClientEndpoint(reactor, self._target.host, self._target.port)
        dialling: Deferred[IProtocol] = endpoint.connect(protocolFactory)
        return dialling.addErrback(failed)


@cache
def client_tls(client_ca: str | None = None, client_crl: str | None = None) -> SSL.Context:
    """How TLS is spoken to clients, and whose certificates are believed."""
    with TemporaryDirectory() as folder:
        certificate, key = made("proxyd.test", names=("proxyd.test",)).write(folder, "proxyd")
        return server_context(certificate, key, client_ca=client_ca, client_crl=client_crl)


def networks(*texts: str) -> tuple[Network, ...]:
    """Networks by their text."""
    return tuple(ip_network(text) for text in texts)


class SceneTestCase(TestCase):
    """A fake server, a link and a clock; and nothing left at the end."""

    timeout = 120

    async def setUp(self) -> None:
        """Start the link and the fake server."""
        self.clock = Clock()
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.link = Link(reactor, self.clock, LINGER)
        self.link.start()
        self.dialer = Dialer()
        self.fake = FakeServer()
        await self.fake.start()
        self.pools = Pools(self.clock, lambda: 0.0)
        self.clients: list[Client] = []
        self.loose: list[Pool] = []
        self.listener: PostgresListener | None = None
        self.listening_at = 0

    async def tearDown(self) -> None:
        """Let everything end, and see that nothing is left."""
        for client in self.clients:
            client.close()
        try:
            if self.listener is not None:
                await self.listener.stopService()
            if self.pools.running:
                self.pools.stopService()
            for pool in self.loose:
                pool.abort()
            await self.fake.stop()
            await until(
                lambda: self.link.ends == 0 and not self.fake.open,
                f"the link to carry nothing: {self.link.ends} ends, {self.fake.open} open",
            )
            await until(lambda: all(client.ended for client in self.clients), "clients to end")
        finally:
            self.link.stop()

    # -- parts

    def connection(self, name: str = "shop", **changes: object) -> Connection:
        """A connection to the fake server; nothing is kept warm unless it is asked for."""
        dsn = Dsn(
            hosts=(Target("127.0.0.1", self.fake.port),),
            user="svc",
            database="shop",
            sslmode="disable",
        )
        plain = Connection(
            name, dsn, Secret("service-secret"), min_idle_connections=0, max_open_connections=4
        )
        return replace(plain, **changes)

    def dsn(self, **changes: object) -> Dsn:
        """The DSN of L{connection}, with changes."""
        return replace(self.connection().dsn, **changes)

    def server(self, connection: Connection | None = None) -> Server:
        """The server behind a connection."""
        return Server(connection or self.connection(), self.dialer, self.link, self.clock)

    def pool(self, connection: Connection | None = None, *, keep_warm: bool = False) -> Pool:
        """A pool that is closed at the end."""
        server = self.server(connection)
        pool = Pool(server, SERVICE, "shop", self.clock, lambda: 0.0, keep_warm)
        self.loose.append(pool)
        return pool

    def listen(self, *connections: Connection, **changes: object) -> PostgresListener:
        """A listener on a free port, with these connections behind it."""
        settings = Postgres(
            listen=(Listener("127.0.0.1:0", "tcp", "127.0.0.1", 0),),
            tls=PostgresTls("prefer"),
        )
        settings = replace(settings, **changes)
        servers = {one.name: self.server(one) for one in connections or (self.connection(),)}
        self.pools.serve(servers, accounts_of(servers))
        if not self.pools.running:
            self.pools.startService()
        tls = settings.tls
        context = None if tls.mode == "disable" else client_tls(tls.client_ca, tls.client_crl)
        listener = self.listener = PostgresListener(
            reactor,
            self.link,
            settings,
            Log(),
            context,
            Directory(servers),
            self.pools,
            known_tokens(self.clock),
        )
        listener.open()
        listener.startService()
        ((_, self.listening_at),) = listener.addresses
        return listener

    # -- clients

    async def client(self, announced: str = "") -> Client:
        """
        A client of the listener.

        @param announced: the address that a PROXY header tells of it
        """
        client = await Client.connect(self.listening_at)
        self.clients.append(client)
        if announced:
            family = "TCP6" if ":" in announced else "TCP4"
            here = "::1" if ":" in announced else "127.0.0.1"
            client.send(f"PROXY {family} {announced} {here} 4711 6432\r\n".encode())
        return client

    async def entered(
        self, user: str = "ann", database: str = "shop", password: str = "", **settings: str
    ) -> Client:
        """A client that is let in; with a password when it is asked for one."""
        client = await self.client()
        client.start(user, database, **settings)
        if password:
            asked = await client.message()
            assert asked is not None and asked.kind == "R", asked
            client.password(password)
        messages = await client.read("Z")
        self.assertEqual(messages[-1].kind, "Z", [(m.kind, m.body) for m in messages])
        return client

    async def ended(self, client: Client) -> None:
        """Wait until the connection of a client is over."""
        await until(lambda: client.ended, "the connection to end")

    async def backend(self, count: int = 1) -> Backend:
        """Wait until the fake server has so many logins; gives the newest."""
        await until(lambda: len(self.fake.backends) >= count, f"{count} server connections")
        return self.fake.backends[-1]

    # -- the log

    def logged(self, level: LogLevel | None = None) -> list[str]:
        """The log's lines so far."""
        return [
            formatEvent(event)
            for event in self.events
            if level is None or event.get("log_level") == level
        ]

    def assert_never_told(self, *secrets: str) -> None:
        """No event of the log has one of these in any of its fields."""
        for event in self.events:
            everything = formatEvent(event) + repr(event)
            for secret in secrets:
                self.assertNotIn(secret, everything)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking sockets."""
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    return one, other
