"""C{proxyctl tokens}: what lets people in."""

from __future__ import annotations

from typing import Any

import click

from proxyd.ctl.asking import Asking, asks, shown

_COLUMNS = {
    "id": "token_id",
    "database": "database_id",
    "label": "label",
    "issued": "issued_at",
    "expires": "expires_at",
    "revoked": "revoked_at",
    "issuer": "issuer",
}


@click.group()
def tokens() -> None:
    """Issue tokens, list and revoke them."""


@tokens.command("issue")
@click.argument("database")
@click.option("--ttl", metavar="DURATION", help="How long it is good for: 30d, 12h.")
@click.option("--label", metavar="TEXT", help="What you call it.")
@click.option("--role", "roles", metavar="NAME", multiple=True, help="A user name it is good for.")
@asks
def issue(
    asking: Asking, database: str, ttl: str | None, label: str | None, roles: tuple[str, ...]
) -> None:
    """
    Issue a token for DATABASE: a registered one's id, or a connection's name.

    It is shown this once; with --json, the token itself, too.
    """
    body: dict[str, Any] = {"database_id": int(database) if database.isdecimal() else database}
    for name, value in (("ttl", ttl), ("label", label), ("roles", list(roles))):
        if value:
            body[name] = value
    made = asking.client.post("/api/tokens", body)
    asking.done(
        made,
        made["connection_string"],
        f"token {shown(made['token_id'])} for database {shown(made['database_id'])}, "
        f"good until {shown(made['expires_at'])}; it is not shown again",
    )


@tokens.command("list")
@click.option("--database", metavar="DATABASE", help="Only tokens of this one.")
@asks
def list_them(asking: Asking, database: str | None) -> None:
    """List the tokens that are known; what they are is kept nowhere."""
    value = asking.client.get("/api/tokens", database_id=database)
    asking.table(value, _COLUMNS, value["tokens"], "no token is known")


@tokens.command("revoke")
@click.argument("token_id")
@click.option("--issuer", metavar="URL", help="Whose token it is, if not proxyd's own.")
@asks
def revoke(asking: Asking, token_id: str, issuer: str | None) -> None:
    """Revoke the token TOKEN_ID: nobody logs in with it, and its sessions end."""
    value = asking.client.delete("/api/tokens", token_id, issuer=issuer)
    asking.done(value, f"token {shown(token_id)} is revoked")
