"""
The section C{connections}: the databases behind proxyd.
"""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_network

from proxyd.config import values
from proxyd.config.aws import TOKEN_LIFE, read_aws_secret, read_iam, with_tls
from proxyd.config.certificate_rule import read_certificate_rules
from proxyd.config.defaults import (
    LOCAL_SERVER,
    MOST_CONNECTIONS,
    USUAL,
    Defaults,
    connection_of_variables,
)
from proxyd.config.dsn import ParsedDsn, parse_dsn
from proxyd.config.environment import Variables
from proxyd.config.model import AwsIam, Connection, Dsn, Listener, Network, Postgres
from proxyd.config.report import Report
from proxyd.config.secrets import Secret
from proxyd.config.section import Section
from proxyd.config.values import BadValue

AUTHS = ("backend", "token", "scram", "cert", "oauth", "trust")
AUTHS_NOW = ("backend", "cert", "oauth", "token", "trust")
"""Those of L{AUTHS} that this version has."""

_REGISTERED = re.compile(r"db_[0-9]+")
_LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def read_connections(
    root: Section,
    variables: Variables,
    defaults: Defaults,
    report: Report,
    postgres: Postgres | None,
) -> dict[str, Connection]:
    """
    Every connection of the file, and C{default} from the variables where the
    file has none and they name one.

    @param defaults: what the variables say where a connection is silent
    @param postgres: the listeners by which clients come to them
    """
    listen = () if postgres is None else postgres.listen
    far = next((place for place in listen if not values.is_local(place)), None)
    section = root.section("connections")
    found: dict[str, Connection] = {}
    names = () if section is None else section.keys()
    for name in names:
        assert section is not None
        below = section.section(name)
        if below is None:
            continue
        own = defaults if name == "default" else Defaults(defaults.pool_size)
        connection = _read_connection(name, below, own, far)
        if connection is not None:
            _check_certificates(below, connection, postgres)
            found[name] = connection
    if "default" not in names:
        from_variables = connection_of_variables(root, variables, defaults, report)
        if from_variables is not None:
            found["default"] = from_variables
    return found


def _check_trust(
    section: Section, auth: tuple[str, ...], allow: tuple[Network, ...] | None, far: Listener | None
) -> None:
    """Refuse C{auth: trust} where clients of other machines could come in by it."""
    if far is not None and "trust" in auth and not _only_loopback(allow):
        section.wrong(
            "auth",
            f"trust is for loopback, but {values.shown(far.text)} may be reached from "
            f"elsewhere: listen on 127.0.0.1, or say allow: [127.0.0.0/8, '::1']",
        )


def _check_certificates(
    section: Section, connection: Connection, postgres: Postgres | None
) -> None:
    """Refuse what needs clients' certificates where none are asked for."""
    if postgres is None or postgres.tls.client_ca is not None:
        return
    for key, wanted in (("auth", "cert" in connection.auth), ("cert_map", connection.cert_map)):
        if wanted:
            section.wrong(key, "needs clients' certificates: postgres.tls.client_ca must be given")


def _only_loopback(allow: tuple[Network, ...] | None) -> bool:
    return allow is not None and all(
        any(block.version == own.version and block.subnet_of(own) for own in _LOOPBACK)  # type: ignore[arg-type]  # of one version
        for block in allow
    )


def _read_connection(
    name: str, section: Section, defaults: Defaults, far: Listener | None
) -> Connection | None:
    """One connection; None where its DSN can't be used."""
    _check_name(name, section)
    section.word("driver", ("postgres",), "postgres")
    iam = read_iam(section, USUAL.connect_timeout)
    secret = read_aws_secret(section)
    parsed = _read_dsn(section, defaults, iam_user=iam.user if iam else None)
    dsn = USUAL.dsn if parsed is None else parsed.dsn
    if iam is not None and parsed is not None:
        dsn = with_tls(dsn, section)
        dsn = replace(dsn, user=iam.user or dsn.user)
    elsewhere = "aws_iam_auth" if iam else "aws_secret" if secret else ""
    connection = replace(
        USUAL,
        name=name,
        dsn=dsn,
        password=_read_password(section, parsed, defaults, elsewhere),
        connect_timeout=_read_connect_timeout(section, parsed, iam),
        aws_iam_auth=iam,
        aws_secret=secret,
    )
    if iam and section.has("aws_secret"):
        section.wrong("aws_secret", "contradicts aws_iam_auth: leave one of them out")
    connection = _with_clients(connection, section, far)
    connection = _with_pool(connection, section, defaults, iam=iam is not None)
    section.close()
    return None if parsed is None else connection


def _with_clients(connection: Connection, section: Section, far: Listener | None) -> Connection:
    """Who may come, how they log in, and whose name the database sees."""
    auth = _read_auth(section)
    allow = section.networks("allow")
    _check_trust(section, auth, allow, far)
    cert_map = read_certificate_rules(section)
    databases, users = section.each("databases", str), section.each("users", str)
    for key, given in (("allow", allow), ("databases", databases), ("users", users)):
        if given == ():
            section.wrong(key, "an empty list lets nobody in: leave it out for any")
    if databases and connection.name != "default":
        section.wrong("databases", "is for `default` only: other connections serve their own name")
    identity = section.word("identity", ("service", "set_role", "user"), connection.identity)
    if identity == "user":
        section.not_yet("identity", identity)
    return replace(
        connection,
        auth=auth,
        cert_map=cert_map,
        allow=allow,
        databases=databases,
        users=users,
        identity=identity,
    )


def _with_pool(
    connection: Connection, section: Section, defaults: Defaults, *, iam: bool
) -> Connection:
    """How many server connections there are, for how long, and by which way."""
    most, least_idle, most_idle = _read_sizes(section, defaults.pool_size)
    lifetime, idle_time = _read_lifetimes(section, iam=iam)
    modes = ("session", "transaction", "statement")
    pool_mode = section.word("pool_mode", modes, connection.pool_mode)
    if pool_mode != "session":
        section.not_yet("pool_mode", pool_mode)
    via = section.text("via")
    return replace(
        connection,
        pool_mode=pool_mode,
        reset=section.word("reset", ("discard_all", "close"), connection.reset),
        max_open_connections=most,
        min_idle_connections=least_idle,
        max_idle_connections=most_idle,
        connection_max_lifetime=lifetime,
        connection_max_idle_time=idle_time,
        health_check_period=section.duration("health_check_period", USUAL.health_check_period),
        acquire_timeout=section.duration("acquire_timeout", USUAL.acquire_timeout),
        via=via,
    )


def _check_name(name: str, section: Section) -> None:
    try:
        if not name:
            raise BadValue("a connection needs a name")
        values.sound(name)
        if _REGISTERED.fullmatch(name):
            raise BadValue("db_NUMBER is for databases that are registered while proxyd runs")
    except BadValue as error:
        section.wrong("", str(error))


def _read_dsn(section: Section, defaults: Defaults, *, iam_user: str | None) -> ParsedDsn | None:
    parsed = section.value(
        "dsn",
        lambda text: parse_dsn(
            text,
            section.environment,
            default_host=defaults.host,
            default_user=iam_user or defaults.user,
        ),
    )
    if parsed is None:
        if not section.has("dsn"):
            if defaults.user is not None:
                return ParsedDsn(Dsn((defaults.host or LOCAL_SERVER,), defaults.user))
            section.wrong("", "has no dsn: dsn: postgresql://USER@HOST:PORT/")
        return None
    if parsed.dsn.user is None:
        section.wrong("dsn", "names no user: postgresql://USER@HOST:PORT/")
        return None
    return parsed


def _read_password(
    section: Section, parsed: ParsedDsn | None, defaults: Defaults, elsewhere: str
) -> Secret | None:
    """The password; C{elsewhere} is the key that says where it comes from, if one does."""
    password = section.secret("password")
    inside = parsed is not None and parsed.password is not None
    if section.has("password") and inside:
        section.wrong("password", "the dsn has a password, too: leave one of them out")
    if elsewhere and (section.has("password") or inside):
        section.wrong(
            "password" if section.has("password") else "dsn",
            f"a password contradicts {elsewhere}, which brings one for each connection",
        )
    if parsed is not None and parsed.password is not None:
        return Secret(parsed.password, section.environment, literal=True)
    return password or (None if section.has("password") or elsewhere else defaults.password)


def _read_auth(section: Section) -> tuple[str, ...]:
    auth = section.each("auth", lambda text: values.one_of(text, AUTHS))
    if auth is None:
        return ("backend",)
    if auth == () or (len(auth) > 1 and sorted(auth) != ["backend", "token"]):
        section.wrong("auth", "is one of its words, or [backend, token]")
        return ("backend",)
    for word in auth:
        if word not in AUTHS_NOW:
            section.not_yet("auth", word)
    # Which way is asked is decided by the password's shape, not by the order here.
    return tuple(sorted(auth))


def _read_sizes(section: Section, pool_size: int) -> tuple[int, int, int]:
    """C{max_open_connections}, C{min_idle_connections} and C{max_idle_connections}."""
    most = section.count("max_open_connections", pool_size, 1, MOST_CONNECTIONS)
    most_idle = section.count("max_idle_connections", most, 0, MOST_CONNECTIONS)
    if most_idle > most:
        section.wrong(
            "max_idle_connections", f"{most_idle} is more than max_open_connections, {most}"
        )
        most_idle = most
    usual = min(USUAL.min_idle_connections, most_idle)
    least_idle = section.count("min_idle_connections", usual, 0, MOST_CONNECTIONS)
    if least_idle > most_idle:
        section.wrong(
            "min_idle_connections", f"{least_idle} is more than max_idle_connections, {most_idle}"
        )
        least_idle = most_idle
    return most, least_idle, most_idle


def _read_lifetimes(section: Section, *, iam: bool) -> tuple[float, float]:
    """C{connection_max_lifetime} and C{connection_max_idle_time}, in seconds."""
    usual = (14 * 60.0, 10 * 60.0) if iam else (3600.0, 1800.0)
    lifetime = section.duration("connection_max_lifetime", usual[0])
    idle_time = section.duration("connection_max_idle_time", usual[1])
    if iam and lifetime >= TOKEN_LIFE:
        section.wrong(
            "connection_max_lifetime",
            "must be less than 15m with aws_iam_auth: an IAM token is good for 15 minutes, "
            "and no connection may outlive its token",
        )
        lifetime = usual[0]
    return lifetime, idle_time


def _read_connect_timeout(section: Section, parsed: ParsedDsn | None, iam: AwsIam | None) -> float:
    inside = None if parsed is None else parsed.connect_timeout
    if inside is not None and section.has("connect_timeout"):
        section.wrong("connect_timeout", "the dsn has one, too: leave one of them out")
    usual = inside or USUAL.connect_timeout
    if iam is not None and not section.has("connect_timeout") and inside is None:
        usual = iam.connection_timeout
    return section.duration("connect_timeout", usual)
