"""
The configuration as values: every key, its type and its default.

Nothing here reads a file, an environment or a clock: L{proxyd.config.load}
makes these values and refuses what can't be made into one. Durations are
seconds (float), sizes are bytes (int).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from proxyd.config.agents_model import Agents
from proxyd.config.api_model import Api
from proxyd.config.certificate_rule import CertificateRule
from proxyd.config.secrets import Secret
from proxyd.config.times import PasswordTimes, ServerTimes, SessionTimes
from proxyd.config.token_settings import TokenSettings
from proxyd.config.ways import Socks5, Upstream
from proxyd.errors import Problem
from proxyd.rules.routes import DIRECT, Rule
from proxyd.target import Target

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Listener:
    """
    One place to listen, as the configuration names it.

    @param text: what stood in the configuration
    @param kind: C{tcp} (host and port), C{unix} (path), C{systemd} (name of
        the socket) or C{endpoint} (text is a Twisted endpoint description)
    """

    text: str
    kind: str
    host: str = ""
    port: int = 0
    path: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """Where proxyd keeps what it must remember; C{url} None: the state directory."""

    url: str | None = field(default=None, repr=False)
    key: Secret | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """How loud, in which form (text, json), and whether statements are logged (off, on)."""

    level: str = "info"
    format: str = "text"
    statements: str = "off"


@dataclass(frozen=True, slots=True)
class PostgresTls:
    """TLS toward PostgreSQL clients; mode is disable, prefer, require or verify-full."""

    mode: str = "prefer"
    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    client_crl: str | None = None


@dataclass(frozen=True, slots=True)
class Postgres:
    """
    The PostgreSQL listener.

    @param proxy_protocol: balancers whose PROXY header is believed
    @param node: C{HOST:PORT} where the other nodes of a shared store reach this
        listener; None: the first address it listens at
    @param public: what connection strings name, C{HOST:PORT} (C{HOST} alone
        where the port is only known once listening); None: the listener
    @param on_demand: nothing in the configuration asks for it: it is opened when a
        database is registered
    @param auth_timeout: seconds until a client must have logged in
    """

    listen: tuple[Listener, ...] = (Listener("127.0.0.1:6432", "tcp", "127.0.0.1", 6432),)
    proxy_protocol: tuple[Network, ...] = ()
    public: str | None = None
    node: str | None = None
    tls: PostgresTls = PostgresTls()
    auth_timeout: float = 30.0
    max_clients: int = 10000
    password_times: PasswordTimes = field(default_factory=PasswordTimes)
    session_times: SessionTimes = field(default_factory=SessionTimes)
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Dsn:
    """
    A libpq connection string, taken apart.

    @param hosts: in the order given; a host starting with C{/} is the folder
        of a UNIX socket, and its target's host is that folder's socket path
        C{FOLDER/.s.PGSQL.PORT}
    @param user: None when the DSN names none
    @param database: fixed for all clients; None: the client's name is used
    @param sslmode: disable, allow, prefer, require, verify-ca or verify-full
    @param parameters: what else the DSN said, by libpq's names (sslrootcert,
        sslcert, sslkey, application_name, options, require_auth,
        channel_binding, target_session_attrs, keepalives...), values as text
    """

    hosts: tuple[Target, ...]
    user: str | None = None
    database: str | None = None
    sslmode: str = "prefer"
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AwsIam:
    """
    A login by RDS IAM tokens.

    @param region: None: from the host's name, else the profile's
    @param user: whom the token is made for; None: the DSN's user
    @param profile: the profile of the credentials; None: AWS's own search
    @param connection_timeout: seconds that a login may take, its token included
    """

    region: str | None = None
    user: str | None = None
    profile: str | None = None
    connection_timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class AwsSecret:
    """A password kept in AWS Secrets Manager, by the ARN of its secret."""

    arn: str
    region: str
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """
    One database server behind proxyd, by the name that clients ask for.

    @param aws_iam_auth: None: the service user has a password, or none
    @param aws_secret: where its password is kept; None: in C{password}
    """

    name: str
    dsn: Dsn
    password: Secret | None = None
    auth: tuple[str, ...] = ("backend",)
    allow: tuple[Network, ...] | None = None
    databases: tuple[str, ...] | None = None
    users: tuple[str, ...] | None = None
    pool_mode: str = "session"
    reset: str = "discard_all"
    max_open_connections: int = 10
    min_idle_connections: int = 2
    max_idle_connections: int = 10
    connection_max_lifetime: float = 3600.0
    connection_max_idle_time: float = 1800.0
    health_check_period: float = 60.0
    connect_timeout: float = 10.0
    acquire_timeout: float = 30.0
    identity: str = "service"
    via: str | None = None
    server_times: ServerTimes = field(default_factory=ServerTimes)
    cert_map: tuple[CertificateRule, ...] = ()
    aws_iam_auth: AwsIam | None = None
    aws_secret: AwsSecret | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """
    A whole configuration, valid by construction.

    @param path: the file it came from; None when the environment alone made it
    @param postgres: None when nothing asks for the listener
    @param pool_size: C{max_open_connections} of each registered database
    @param socks5: None when nothing asks for the listener
    @param upstreams: the ways out beside the direct one, by name
    @param routes: first match first
    @param default: the way of what no route takes; None: it is denied
    @param api: None: there is none
    @param later: keys or sections that this version knows by name only, each
        a problem whose text says "not in this version yet": no reason to fail
        a check, but to refuse a start
    @param warnings: what should be looked at, though it works
    """

    path: str | None = None
    state: State = State()
    log: Log = Log()
    drain_timeout: float = 30.0
    postgres: Postgres | None = None
    connections: Mapping[str, Connection] = field(default_factory=dict)
    pool_size: int = 10
    tokens: TokenSettings = field(default_factory=TokenSettings)
    socks5: Socks5 | None = None
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    routes: tuple[Rule, ...] = ()
    default: str | None = DIRECT
    api: Api | None = None
    agents: Agents | None = None
    later: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
