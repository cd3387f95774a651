"""
Examining a connection of the configuration while it serves: what is wrong, and what helps.

The list is the one that a DBA goes through by hand when logins by token fail
after a while: lifetimes, credentials and clock, a token made and taken, the
grant on the server, and whether connections really are renewed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime

from proxyd.config.aws import TOKEN_LIFE
from proxyd.errors import DialError, DialFailure, ProtocolError
from proxyd.postgres.answers import Refused, token_refused
from proxyd.postgres.pool import Pool
from proxyd.postgres.pools import Pools
from proxyd.postgres.server import Account, Server
from proxyd.postgres.server_connection import Failed, Lost, ServerConnection
from proxyd.target import Finding, Principal
from proxyd.wire.pg import messages

_HERE = Principal("", "doctor")
_AT_A_TIME = 20
"""Connections that are examined side by side."""

_SLACK = 30.0
"""Seconds by which a connection may be late to be renewed before it is a finding."""

_USUAL_DATABASE = "postgres"

# The statements that the doctor asks; each gives one row of texts.
_WHO = (
    "SELECT current_user, to_char(clock_timestamp() AT TIME ZONE 'UTC', "
    '\'YYYY-MM-DD"T"HH24:MI:SS"Z"\')'
)
_GRANT = (
    "SELECT CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_iam') "
    "THEN 'none' ELSE pg_catalog.pg_has_role(current_user, 'rds_iam', 'member')::text END"
)
_OLD = (
    "SELECT count(*), coalesce(max(extract(epoch from now() - backend_start)), 0)::bigint "
    "FROM pg_catalog.pg_stat_activity WHERE usename = current_user AND state = 'idle' "
    "AND pid <> pg_backend_pid() AND now() - backend_start > interval '{seconds:.0f} seconds'"
)


@dataclass(frozen=True, slots=True)
class Patient:
    """
    A connection of the configuration, to be examined.

    @param pools: those that are there now
    """

    server: Server
    account: Account
    pools: Sequence[Pool]


class Doctor:
    """Examines the connections that pools serve, while they serve them."""

    def __init__(self, pools: Pools, clock: IReactorTime) -> None:
        self._pools = pools
        self._clock = clock

    async def examine(self, name: str | None = None) -> list[tuple[str, Finding]]:
        """
        What is found, each with its connection's name.

        @param name: only this connection; None: all
        """
        served = self._pools.served
        if name is not None and name not in served:
            return [(name, Finding("connection", False, "there is none of this name"))]
        # Where a network is down, one after the other would take longer than anybody waits.
        few = DeferredSemaphore(_AT_A_TIME)
        names = list(served) if name is None else [name]
        results = await gatherResults([few.run(self._examined, one) for one in names])
        pairs = zip(names, results, strict=True)
        return [(one, finding) for one, found in pairs for finding in found]

    def _examined(self, name: str) -> Deferred[list[Finding]]:
        served = self._pools.served.get(name)
        if served is None:  # it was taken away meanwhile
            return succeed([])
        pools = [pool for pool in self._pools if pool.settings.name == name]
        patient = Patient(*served, pools)
        return Deferred.fromCoroutine(examine(patient, self._clock))


async def examine(patient: Patient, clock: IReactorTime) -> list[Finding]:
    """
    Everything that can be found out about a connection, in the order of a login.

    Logs in to the server once, over a connection of its own. Takes no longer
    than the connection's own deadlines; never fails.
    """
    findings = list(_lifetimes(patient))
    source = patient.account.source
    if source is not None:
        findings += await source.examine()
    findings += await _logged_in(patient)
    findings += _renewed(patient.pools, clock.seconds())
    return findings


def _lifetimes(patient: Patient) -> Iterable[Finding]:
    settings = patient.server.connection
    lifetime, idle = settings.connection_max_lifetime, settings.connection_max_idle_time
    if settings.aws_iam_auth is not None and lifetime >= TOKEN_LIFE:
        yield Finding(
            "lifetimes",
            False,
            f"connection_max_lifetime is {lifetime:g} s, and a token is good for 900 s",
            "Say connection_max_lifetime: 14m.",
        )
    elif idle > lifetime:
        yield Finding(
            "lifetimes",
            True,
            f"connection_max_idle_time, {idle:g} s, is more than the lifetime, {lifetime:g} s: "
            "it never comes to pass",
        )
    else:
        yield Finding("lifetimes", True, f"{lifetime:g} s at most, {idle:g} s when idle")


async def _logged_in(patient: Patient) -> list[Finding]:
    """A login, and what is to be seen from inside."""
    settings = patient.server.connection
    database = settings.dsn.database or _USUAL_DATABASE
    try:
        server = await patient.server.login(patient.account, database, {}, _HERE)
    except Refused as error:
        remedy = "See what the server's own log says."
        if error.error.sqlstate == "28P01":
            remedy = "The password of this connection is not this user's: change one of the two."
        if settings.aws_iam_auth is not None:
            remedy = token_refused(error.error).hint
        return [Finding("login", False, f"the server refuses it: {error}", remedy)]
    except (DialError, ProtocolError) as error:
        remedy = "Is the server up, and the way there open (security group, route, via)?"
        if isinstance(error, DialError) and error.failure is DialFailure.CREDENTIALS:
            remedy = "See what is said of the credentials."
        return [Finding("login", False, str(error), remedy)]
    try:
        return [
            Finding("login", True, f"the server at {server.address} takes it"),
            *await _inside(server, settings.connection_max_lifetime, patient),
        ]
    except (Failed, Lost, ProtocolError) as error:
        return [Finding("login", False, f"logged in, but: {error}", "Try again.")]
    finally:
        server.goodbye()


async def _inside(server: ServerConnection, lifetime: float, patient: Patient) -> list[Finding]:
    user, clock = await _row(server, _WHO)
    findings = [Finding("identity", True, f"the server knows us as {user}, at its {clock}")]
    if patient.server.connection.aws_iam_auth is not None:
        findings.append(_granted((await _row(server, _GRANT))[0], user))
    number, oldest = await _row(server, _OLD.format(seconds=lifetime + _SLACK))
    leased = sum(pool.leased_over_lifetime for pool in patient.pools)
    return [*findings, idle_finding(user, lifetime, int(number), int(oldest), leased)]


def idle_finding(user: str, lifetime: float, number: int, oldest: int, leased: int) -> Finding:
    """
    What it means that so many idle connections are older than any may be.

    @param number: as the server sees it: also of clients who do nothing
    @param leased: that clients have: they are not cut for their age
    """
    if not number:
        return Finding("idle connections", True, f"none of {user} is older than {lifetime:g} s")
    if number <= leased:
        return Finding(
            "idle connections",
            True,
            f"{number} of {user} are older than {lifetime:g} s, and in use by clients who do "
            "nothing now: they are not cut for their age",
        )
    return Finding(
        "idle connections",
        False,
        f"{number} of {user} are older than {lifetime:g} s, the oldest {oldest} s; {leased} of "
        "them are in use",
        "If they are not another program's, ask GET /api/docker/proxy what this pool "
        "does; POST /api/docker/proxy/restart makes it anew.",
    )


def _granted(answer: str, user: str) -> Finding:
    if answer == "none":
        return Finding("rds_iam", None, "the server has no role rds_iam: it is no RDS")
    if answer == "true":
        return Finding("rds_iam", True, f"{user} is a member")
    return Finding("rds_iam", False, f"{user} is no member", f'GRANT rds_iam TO "{user}";')


def _renewed(pools: Sequence[Pool], now: float) -> Iterable[Finding]:
    """Whether connections are closed when their lifetime is over."""
    for pool in pools:
        closed, lifetime = pool.counters.max_lifetime_closed, pool.settings.connection_max_lifetime
        if closed:
            yield Finding("renewal", True, f"{pool.name}: max_lifetime_closed is {closed}")
        elif pool.oldest > lifetime + _SLACK and not pool.leased_over_lifetime:
            yield Finding(
                "renewal",
                False,
                f"{pool.name}: a connection of {pool.oldest:.0f} s was not renewed",
                "POST /api/docker/proxy/restart makes the pool anew; please report it.",
            )
        else:
            yield Finding(
                "renewal", None, f"{pool.name}: none was due yet, the oldest is {pool.oldest:.0f} s"
            )


async def _row(server: ServerConnection, statement: str) -> list[str]:
    """The only row of an answer, as texts."""
    for kind, body in await server.run(messages.query(statement)):
        if kind == messages.DATA_ROW:
            return [
                (field or b"").decode("utf-8", "replace") for field in messages.parse_data_row(body)
            ]
    raise ProtocolError("the server answered a question without a row")
