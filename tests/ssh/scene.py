"""A real SSH server and an upstream that goes through it, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from proxyd.config.times import PulseTimes, UpstreamTimes
from proxyd.dial.direct import DirectDialer
from proxyd.errors import DialError
from proxyd.net.resolver import Resolver
from proxyd.ssh.channels import Channels
from proxyd.ssh.client import Account, SshClient, SshError
from proxyd.ssh.identities import read_key
from proxyd.ssh.known_hosts import HostKeys
from proxyd.ssh.upstream import Host, SshLogin, SshUpstream
from proxyd.target import Principal, Target
from tests.support.sshd import Sshd
from tests.support.streams import Party, until

ANN = Principal("ann", "192.0.2.9")
SWIFT = UpstreamTimes(connect=20.0, first_pause=0.05, longest_pause=0.2, soonest=0.05, settle=0.2)
PULSE = PulseTimes(interval=30.0, patience=30.0)


class Echo(Protocol):
    """A target that says back what it hears."""

    def dataReceived(self, data: bytes) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(data)


class Targets(Factory):
    """Makes what is connected to, and knows what is left of it."""

    noisy = False

    def __init__(self, protocol: type[Protocol]) -> None:
        self.protocol = protocol
        self.left: list[IProtocol] = []

    def buildProtocol(self, addr: object) -> IProtocol:
        """Somebody comes."""
        made: Any = self.protocol()
        lost = made.connectionLost

        def forget(reason: object) -> None:
            self.left.remove(made)
            lost(reason)

        made.connectionLost = forget
        self.left.append(made)
        return made  # type: ignore[no-any-return]

    async def end(self) -> None:
        """Nothing is left."""
        for one in self.left:
            transport: Any = one.transport  # type: ignore[attr-defined]
            transport.abortConnection()
        await until(lambda: not self.left, "the targets to be gone")


class SshCase(TestCase):
    """Servers and upstreams, put away at the end; none may be left."""

    def sshd(self, *options: str, **words: Any) -> Sshd:
        """A running server."""
        server = Sshd(*options, **words)
        self.addCleanup(server.remove)
        server.start()
        self.addCleanup(server.stop)
        return server

    async def target(self, protocol: type[Protocol] = Echo) -> Target:
        """A port of 127.0.0.1 where somebody listens."""
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")  # type: ignore[no-untyped-call]
        factory = Targets(protocol)
        port = await endpoint.listen(factory)
        self.addCleanup(factory.end)
        self.addCleanup(port.stopListening)
        return Target("127.0.0.1", port.getHost().port)

    def host_keys(self, *lines: str, learn: bool = True) -> HostKeys:
        """A file of host keys."""
        path = Path(self.mktemp())
        path.write_text("".join(f"{line}\n" for line in lines))
        keys = HostKeys(path, learn=learn)
        keys.read()
        return keys

    def dialer(self) -> DirectDialer:
        """The direct way, as the daemon has it."""
        resolver = Resolver(reactor)  # type: ignore[arg-type]
        resolver.startService()
        self.addCleanup(resolver.stopService)
        return DirectDialer(reactor, resolver, 20.0)  # type: ignore[arg-type]

    def host(self, server: Sshd, way: Any = None) -> Host:
        """A server as an upstream knows it."""
        target = Target(server.host, server.port)
        dialer = way or self.dialer()
        endpoint = dialer.endpoint_for(target, ANN)
        return Host(str(target), target.host, target.port, endpoint)

    def login(self, server: Sshd, host_keys: HostKeys | None = None) -> SshLogin:
        """How to log in to it."""
        keys = host_keys or self.host_keys()
        return SshLogin(server.user, server.client_key, None, None, keys)

    def upstream(self, *servers: Sshd, start: bool = True, **words: Any) -> SshUpstream:
        """An upstream through these servers."""
        hosts = words.pop("hosts", None) or [self.host(one) for one in servers]
        login = words.pop("login", None) or self.login(servers[0])
        settings = {"times": SWIFT, "pulse": PULSE, "timeout": 40.0} | words
        upstream = SshUpstream("office", hosts, login, reactor, **settings)  # type: ignore[arg-type]
        if start:
            upstream.startService()
            self.addCleanup(upstream.stopService)
        return upstream

    async def none_left(self, upstream: SshUpstream) -> None:
        """Wait until no stream goes through it."""
        await until(
            lambda: not any(one.streams for one in upstream.status().instances), "no stream left"
        )

    async def connect(
        self, server: Sshd, account: Account | None = None, pulse: PulseTimes = PULSE
    ) -> Channels:
        """
        One connection, logged in.

        @raise SshError: why not
        """
        account = account or self.account(server)
        endpoint = TCP4ClientEndpoint(reactor, server.host, server.port)  # type: ignore[no-untyped-call]
        made: list[SshClient] = []

        def client() -> SshClient:
            made.append(SshClient(account, pulse, reactor))  # type: ignore[arg-type]
            return made[-1]

        await endpoint.connect(Factory.forProtocol(client))
        channels = await made[0].ready
        self.addCleanup(lambda: channels.gone)
        self.addCleanup(channels.disconnect)
        return channels

    def account(self, server: Sshd, **words: Any) -> Account:
        """How to log in to it; words change fields of the L{Account}."""
        fields: dict[str, Any] = {
            "name": server.host,
            "port": server.port,
            "user": server.user,
            "identities": read_key(server.client_key, None),
            "host_keys": self.host_keys(),
        }
        return Account(**(fields | words))

    async def refused(self, connecting: Any) -> str:
        """The text of the SshError that this ends with."""
        try:
            await connecting
        except SshError as problem:
            return str(problem)
        raise AssertionError("connected")

    async def dial(self, upstream: SshUpstream, target: Target) -> Party:
        """A stream through an upstream."""
        party = Party()
        endpoint = upstream.endpoint_for(target, ANN)
        await endpoint.connect(Factory.forProtocol(lambda: party))  # type: ignore[arg-type]
        return party

    async def dial_fails(self, dialling: Any) -> DialError:
        """The DialError that this ends with."""
        try:
            await dialling
        except DialError as problem:
            return problem
        raise AssertionError("connected")
