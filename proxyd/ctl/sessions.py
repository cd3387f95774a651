"""C{proxyctl sessions}: who is here."""

from __future__ import annotations

import click

from proxyd.ctl.asking import Asking, asks, shown
from proxyd.ctl.client import CallFailed

_COLUMNS = {
    "id": "session_id",
    "kind": "kind",
    "user": "user",
    "from": "source",
    "to": "target",
    "state": "state",
    "token": "token_id",
    "in": "bytes_received",
    "out": "bytes_sent",
    "since": "since",
}


@click.group()
def sessions() -> None:
    """List live sessions, and end them."""


@sessions.command("list")
@click.option("--kind", help="Only sessions of this kind: postgres, socks5, agent.")
@click.option("--user", help="Only sessions of this user.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@asks
def list_them(asking: Asking, kind: str | None, user: str | None, limit: int | None) -> None:
    """List the live sessions, oldest first."""
    value = asking.client.get("/api/sessions", kind=kind, user=user, limit=limit)
    asking.table(value, _COLUMNS, value["sessions"], "nobody is here")


@sessions.command("kill")
@click.argument("session_ids", metavar="SESSION_ID...", nargs=-1, required=True, type=int)
@asks
def kill(asking: Asking, session_ids: tuple[int, ...]) -> None:
    """End sessions, whatever they are doing."""
    ended, missing = [], []
    for session_id in session_ids:
        try:
            ended.append(asking.client.delete("/api/sessions", str(session_id))["session"])
        except CallFailed as failure:
            if failure.status != 404:
                raise
            missing.append(session_id)
    lines = [
        f"session {one['session_id']} of {shown(one['user'])} on {shown(one['target'])} is ended"
        for one in ended
    ]
    if ended or not missing:
        asking.done({"sessions": ended}, *lines)
    if missing:
        numbers = ", ".join(map(str, missing))
        raise CallFailed(f"there is no session {numbers}: it may be over", 404)
