"""
A look at the servers of a configuration, without a daemon: for C{proxyctl check --live}.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from proxyd.errors import DialError, StartError
from proxyd.interfaces import ITokenSource
from proxyd.postgres.answers import Refused
from proxyd.postgres.pools import account_of
from proxyd.postgres.server import Account, Server
from proxyd.target import Principal
from proxyd.wire.pg.login import Unchallenged

_HERE = Principal("", "proxyctl")
_TRUSTED = (
    "its pg_hba.conf trusts this address, so it can't check a client's password: it must ask"
    " for scram-sha-256 here"
)
_ANY_DATABASE = "postgres"


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What was seen at one server.

    @param connection: the connection's name
    @param failed: clients would not be served
    @param what: what it was, and what to do
    """

    connection: str
    failed: bool
    what: str


async def look_at(server: Server, source: ITokenSource | None = None) -> list[Seen]:
    """
    Log in to a server as the service user, and as somebody nobody is.

    @param source: where the service user's password comes from, if not from
        the configuration
    @return: what an operator should know; empty when all is well
    """
    connection = server.connection
    database = connection.dsn.database or _ANY_DATABASE

    def seen(what: str, failed: bool = True) -> Seen:
        return Seen(connection.name, failed, what)

    try:
        account = account_of(connection, source)
    except StartError:
        # What can't be read was told of when the files were looked at.
        return []
    try:
        logged_in = await server.login(account, database, {}, _HERE)
    except DialError as error:
        return [seen(str(error))]
    except Refused as refused:
        return [seen(f"the service user was refused: {refused}")]
    superuser = logged_in.parameters.get("is_superuser") == "on"
    logged_in.goodbye()
    found = []
    if superuser:
        found.append(
            seen(
                f"the service user {account.user} is a superuser, and so is every client:"
                " give it a role with the rights that clients need",
                failed=False,
            )
        )
    if "backend" in connection.auth:
        found += [seen(what) for what in await _checks_passwords(server, account.user, database)]
    return found


async def _checks_passwords(server: Server, user: str, database: str) -> list[str]:
    """Whether the server asks those who come from here for a password."""
    guess = Account(user, secrets.token_urlsafe(16).encode(), challenged=True)
    try:
        logged_in = await server.login(guess, database, {}, _HERE)
    except Unchallenged:
        return [_TRUSTED]
    except (Refused, DialError):
        return []
    logged_in.goodbye()
    return ["it takes any password from this address: look at its pg_hba.conf"]
