"""
The variables GPRXY_USER, GPRXY_PASS, DB_HOST and PROXY_POOL_SIZE, as
connections see them: what they say where a connection is silent, and the
connection C{default} that they make where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxyd.config import values
from proxyd.config.dsn import DEFAULT_PORT, place_of
from proxyd.config.environment import Variables, wrong_variable
from proxyd.config.model import Connection, Dsn
from proxyd.config.report import Report
from proxyd.config.secrets import Secret
from proxyd.config.section import Section
from proxyd.config.values import BadValue
from proxyd.target import Target

MOST_CONNECTIONS = 10_000
"""No pool is larger."""

LOCAL_SERVER = Target("localhost", DEFAULT_PORT)
"""The server where neither a DSN nor DB_HOST names one."""

USUAL = Connection("", Dsn(()))
"""A connection with every default."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """
    What the variables say where a connection itself is silent.

    @param pool_size: default of C{max_open_connections}, for all connections
    @param user: the service user of C{default}
    @param password: its password
    @param host: its server
    """

    pool_size: int = 10
    user: str | None = None
    password: Secret | None = None
    host: Target | None = None


def read_defaults(variables: Variables, report: Report) -> Defaults:
    """What GPRXY_USER, GPRXY_PASS, DB_HOST and PROXY_POOL_SIZE say."""
    pool_size, user, host = Defaults().pool_size, None, None
    if variable := variables.get("PROXY_POOL_SIZE"):
        digits = variable.value
        if digits.isascii() and digits.isdigit() and 1 <= int(digits[:9]) <= MOST_CONNECTIONS:
            pool_size = int(digits[:9])
        else:
            what = f"must be a whole number from 1 to {MOST_CONNECTIONS}"
            wrong_variable(report, variable, what)
    if variable := variables.get("GPRXY_USER"):
        try:
            user = values.sound(variable.value)
        except BadValue as error:
            wrong_variable(report, variable, str(error))
    if variable := variables.get("DB_HOST"):
        try:
            host = _database_host(variable.value)
        except BadValue as error:
            wrong_variable(report, variable, str(error))
    given = variables.get("GPRXY_PASS") is not None
    password = Secret("env:GPRXY_PASS", variables.all) if given else None
    return Defaults(pool_size, user, password, host)


def connection_of_variables(
    root: Section, variables: Variables, defaults: Defaults, report: Report
) -> Connection | None:
    """The connection C{default} that the variables alone make, if they ask for one."""
    asked = [variables.get(name) for name in ("GPRXY_USER", "GPRXY_PASS", "DB_HOST")]
    if root.has("connections") and asked[0] is None:
        return None  # the file has connections, and the variables only lend them values
    named = next((variable for variable in asked if variable is not None), None)
    if named is None:
        return None
    if asked[0] is None:
        report.wrong(
            "GPRXY_USER",
            f"is not set, though {named.name} is: it names the service user",
            file=named.file,
        )
        return None
    host = defaults.host or LOCAL_SERVER
    size = defaults.pool_size
    return Connection(
        name="default",
        dsn=Dsn((host,), defaults.user),
        password=defaults.password,
        max_open_connections=size,
        max_idle_connections=size,
        min_idle_connections=min(USUAL.min_idle_connections, size),
    )


def _database_host(text: str) -> Target:
    """DB_HOST: C{HOST}, C{HOST:PORT}, an IPv6 address, the folder of a UNIX socket."""
    if text.startswith("/") or values.address_of(text) is not None:
        return place_of(text, DEFAULT_PORT)
    if text.startswith("[") and text.endswith("]"):
        return place_of(text[1:-1], DEFAULT_PORT)
    if ":" in text:
        return Target(*values.host_and_port(text))
    return Target(values.host(text), DEFAULT_PORT)
