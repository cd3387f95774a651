"""
The ways out, and SOCKS5, as values of the configuration.

Durations are seconds, sizes bytes. Who reads them from a file:
L{proxyd.config.upstreams}, L{proxyd.config.routes}, L{proxyd.config.socks}.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxyd.config.secrets import Secret
from proxyd.config.times import PasswordTimes
from proxyd.rules.routes import NO_LIMITS, Limits
from proxyd.target import Target

if TYPE_CHECKING:
    from proxyd.config.model import Listener


@dataclass(frozen=True, slots=True)
class Ssh:
    """
    How to log in by SSH.

    @param user: None: the name of the user that proxyd runs as
    @param key: the path of a private key; None: ssh-agent
    @param passphrase: of an encrypted key file
    @param port: of instances, and of hosts that name none
    @param known_hosts: the path of a file of host keys; None: accepted at
        first sight and kept in the state directory
    """

    user: str | None = None
    key: str | None = None
    passphrase: Secret | None = None
    port: int = 22
    known_hosts: str | None = None


@dataclass(frozen=True, slots=True)
class Aws:
    """
    Whose AWS account: a profile, or keys with their region, or neither: what
    the machine itself has (its role, its variables).

    @param region: None: the profile's, or the machine's own
    @param endpoint_url: where AWS is, for tests and VPC endpoints
    """

    profile: str | None = None
    region: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    session_token: Secret | None = None
    endpoint_url: str | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """
    One way out, by its name.

    @param ssh: None: no SSH is spoken: SSM port forwarding, or an agent
    @param aws: for instances
    @param agents: ids of reverse agents; then nothing else is set
    @param instances: EC2 or managed instance ids, in failover order
    @param hosts: SSH servers, in failover order; then there are no instances
    @param sessions: SSM sessions, or SSH connections, side by side
    @param start: C{required}: all instances failing at start ends the daemon;
        C{lazy}: it comes up by itself
    @param resolve: C{remote}: names go unresolved to the far side; C{local}:
        resolved, checked and pinned here
    @param via: the name of the upstream it runs over; None: the direct way
    """

    name: str
    ssh: Ssh | None = None
    aws: Aws | None = None
    agents: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    hosts: tuple[Target, ...] = ()
    sessions: int = 1
    start: str = "lazy"
    resolve: str = "remote"
    via: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the SOCKS5 listener."""

    user: str
    password: Secret
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class SocksTls:
    """TLS on the SOCKS5 listener."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Socks5:
    """
    The SOCKS5 listener.

    @param accounts: who may log in; none: nobody needs to
    @param bind: whether BIND is served
    @param pac: whether C{GET /proxy.pac} is answered
    @param auth_timeout: seconds until a client must have said where it wants to go
    @param connect_timeout: seconds that one dial may take
    """

    listen: tuple[Listener, ...]
    accounts: tuple[Account, ...] = field(default=(), repr=False)
    tls: SocksTls | None = None
    bind: bool = False
    pac: bool = False
    auth_timeout: float = 30.0
    connect_timeout: float = 30.0
    max_clients: int = 5000
    password_times: PasswordTimes = field(default_factory=PasswordTimes)
