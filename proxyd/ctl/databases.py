"""C{proxyctl databases}: the databases that are registered while proxyd runs."""

from __future__ import annotations

import sys

import click

from proxyd.config.secrets import Secret
from proxyd.ctl.asking import Asking, asks, shown

_COLUMNS = {
    "id": "database_id",
    "name": "name",
    "clients ask for": "connection",
    "dsn": "dsn",
    "since": "created_at",
}


@click.group()
def databases() -> None:
    """Register databases, list and remove them."""


@databases.command("add")
@click.argument("name")
@click.argument("dsn")
@click.option(
    "--password",
    metavar="SECRET",
    help="env:NAME, file:PATH, - for a line of stdin, or the password itself.",
)
@asks
def add(asking: Asking, name: str, dsn: str, password: str | None) -> None:
    """
    Register the database of the connection string DSN as NAME.

    A password on the command line is seen by everybody on the machine: env:,
    file: and - keep it to yourself.
    """
    body = {"name": name, "dsn": dsn}
    if password == "-":
        body["password"] = sys.stdin.readline().rstrip("\r\n")
    elif password is not None:
        body["password"] = Secret(password).read()
    value = asking.client.post("/api/databases", body)
    asking.done(
        value,
        f"database {value['database_id']}: clients ask for {shown(value['connection'])}; "
        f"a token for it: proxyctl tokens issue {value['database_id']}",
    )


@databases.command("list")
@asks
def list_them(asking: Asking) -> None:
    """List the registered databases."""
    value = asking.client.get("/api/databases")
    asking.table(value, _COLUMNS, value["databases"], "no database is registered")


@databases.command("remove")
@click.argument("database_id", type=click.IntRange(min=1))
@asks
def remove(asking: Asking, database_id: int) -> None:
    """Forget the database DATABASE_ID: its tokens die, and its sessions end."""
    value = asking.client.delete("/api/databases", str(database_id))
    asking.done(value, f"database {database_id} is removed, and its tokens with it")
