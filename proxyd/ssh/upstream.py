"""
An SSH server, or several in failover order, as a way out.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorThreads,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from proxyd.config.times import PulseTimes, UpstreamTimes
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IUpstream, UpstreamStatus
from proxyd.net.failover import Failover
from proxyd.ssh import agent
from proxyd.ssh.channels import Channels
from proxyd.ssh.client import Account, SshClient, SshError
from proxyd.ssh.identities import Identity, read_key
from proxyd.ssh.known_hosts import HostKeys
from proxyd.ssh.lanes import Lanes
from proxyd.target import Principal, Target


class IReactor(agent.IReactor, IReactorThreads):
    """What of the reactor an SSH upstream needs."""


@dataclass(frozen=True, slots=True)
class Host:
    """
    One SSH server.

    @param label: what the status and errors call it
    @param name: by which its host key is known: its host name, or an instance id
    @param port: by which its host key is known
    @param way: leads to its SSH port
    """

    label: str
    name: str
    port: int
    way: IStreamClientEndpoint


@dataclass(frozen=True, slots=True)
class SshLogin:
    """
    How to log in to all of them.

    @param user: None: the user that proxyd runs as
    @param key: a private key's path; None: what the agent holds
    @param passphrase: of the key
    @param agent: the path of the agent's socket (SSH_AUTH_SOCK)
    @param host_keys: the servers' keys
    """

    user: str | None
    key: Path | None
    passphrase: str | None
    agent: str | None
    host_keys: HostKeys

    def __repr__(self) -> str:
        return f"SshLogin({self.user!r}, {str(self.key)!r})"


@implementer(IUpstream)
class SshUpstream(Service):
    """
    A way out through SSH servers.

    @param name: as routes and C{via} call it
    @param hosts: in failover order
    @param resolves: C{far} or C{local}, see L{IUpstream}
    @param sessions: connections to each server, side by side
    @param timeout: seconds that one dial may take
    """

    carries_udp = False

    def __init__(
        self,
        name: str,
        hosts: Sequence[Host],
        login: SshLogin,
        reactor: IReactor,
        *,
        resolves: str = "far",
        sessions: int = 1,
        timeout: float = 30.0,
        pulse: PulseTimes | None = None,
        times: UpstreamTimes | None = None,
    ) -> None:
        self.name = name
        self.resolves = resolves
        self._login = login
        self._reactor = reactor
        self._sessions = sessions
        self._timeout = timeout
        self._pulse = pulse or PulseTimes()
        instances = [(host.label, self._connector(host)) for host in hosts]
        jitter = secrets.SystemRandom().random
        self._failover: Failover[Lanes] = Failover(
            name, instances, reactor, jitter, times or UpstreamTimes()
        )

    def startService(self) -> None:
        """Connect all servers; nobody waits for it here."""
        super().startService()  # type: ignore[no-untyped-call]
        self._failover.start()

    def stopService(self) -> Deferred[None]:
        """Hang up; fires when all connections are gone."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._failover.stop())

    def ready(self) -> Deferred[None]:
        """See L{IUpstream.ready}."""
        return self._failover.ready()

    def status(self) -> UpstreamStatus:
        """See L{IUpstream.status}."""
        return self._failover.status()

    def endpoint_for(self, target: Target, principal: Principal) -> IStreamClientEndpoint:
        """The way to a target, by whichever server is well. See L{IUpstream}."""
        return _Endpoint(self._reactor, self._failover, target, principal, self._timeout)

    def _connector(self, host: Host) -> _Connector:
        return _Connector(self._login, host, self._reactor, self._pulse, self._sessions)


class _Connector:
    """Logs in to one server."""

    def __init__(
        self, login: SshLogin, host: Host, reactor: IReactor, pulse: PulseTimes, sessions: int
    ) -> None:
        self._login = login
        self._host = host
        self._reactor = reactor
        self._pulse = pulse
        self._sessions = sessions

    async def __call__(self) -> Lanes:
        """
        Connect it.

        @raise Exception: with a line for the operator
        """
        return Lanes(await self._log_in(), self._log_in, self._reactor, self._sessions)

    async def _log_in(self) -> Channels:
        login, host = self._login, self._host
        asked = None
        if login.key is None:
            asked = await agent.connect_agent(self._reactor, login.agent)
        try:
            if asked is not None:
                identities: Sequence[Identity] = await asked.identities()
            else:
                identities = await self._read_key()
            login.host_keys.read()
            account = Account(
                host.name,
                host.port,
                login.user or getpass.getuser(),
                identities,
                login.host_keys,
            )
            return await self._connect(account)
        finally:
            if asked is not None:
                asked.close()

    async def _connect(self, account: Account) -> Channels:
        factory = Factory.forProtocol(lambda: SshClient(account, self._pulse, self._reactor))
        factory.noisy = False
        try:
            client = await self._host.way.connect(factory)
        except DialError as problem:
            # What lies between says itself what is broken.
            broken = problem.failure is DialFailure.BROKEN
            raise SshError(problem.detail if broken else str(problem)) from problem
        assert isinstance(client, SshClient)
        return await client.ready

    async def _read_key(self) -> list[Identity]:
        """Read the key file; one with a passphrase takes its time, in a thread."""
        login = self._login
        assert login.key is not None
        if login.passphrase is None:
            return read_key(login.key, None)
        pool = self._reactor.getThreadPool()
        return await deferToThreadPool(self._reactor, pool, read_key, login.key, login.passphrase)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """The way to one target."""

    def __init__(
        self,
        clock: IReactorTime,
        failover: Failover[Lanes],
        target: Target,
        principal: Principal,
        timeout: float,
    ) -> None:
        self._clock = clock
        self._failover = failover
        self._target = target
        self._source = _address(principal.source)
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IDialer.endpoint_for<proxyd.interfaces.IDialer.endpoint_for>}."""
        asked = False

        async def attempt(lanes: Lanes) -> IProtocol:
            nonlocal asked
            asked = True
            return await lanes.open(self._target, self._source, protocolFactory)

        def too_late(_: object, seconds: float) -> IProtocol:
            # Once a server was asked it is the target that does not answer.
            failure = DialFailure.TIMEOUT if asked else DialFailure.BROKEN
            raise DialError(failure, f"{self._target}: no answer in {seconds:g} s")

        dialling = Deferred.fromCoroutine(self._failover.use(attempt))
        dialling.addTimeout(self._timeout, self._clock, too_late)
        return dialling


def _address(source: str) -> str:
    """For whom a channel is, as SSH wants it: an address."""
    try:
        return str(ip_address(source))
    except ValueError:
        return "127.0.0.1"
