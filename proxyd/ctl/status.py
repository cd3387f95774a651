"""C{proxyctl status}: how proxyd is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from proxyd.ctl.asking import Asking, asks, print_table, shown

_POOL = {
    "pool": "pool",
    "total": "total_connections",
    "idle": "idle_connections",
    "in use": "in_use_connections",
    "max": "max_connections",
    "waiting": "waiting",
    "clients": "clients",
    "acquired": "acquire_count",
    "last error": "last_error",
}
_WAYS = ["upstream", "", "instance", "is", "sessions", "streams", "opened", "failed", "last error"]


@click.command()
@asks
def status(asking: Asking) -> None:
    """Tell how proxyd is: its listeners, sessions, pools and upstreams."""
    value = asking.client.get("/api/docker/proxy")
    if asking.as_json:
        asking.done(value)
        return
    click.echo(
        f"proxyd {shown(value['version'])} is {shown(value['status'])}, "
        f"for {_spoken(value['uptime_seconds'])}"
    )
    for listener in value["listeners"]:
        click.echo(f"  {shown(listener['kind'])} at {shown(listener['address'])}")
    for kind, count in value["sessions"].items():
        click.echo(f"  {count} {shown(kind)} session{'' if count == 1 else 's'}")
    if value["pools"]:
        click.echo()
        print_table(
            list(_POOL), [[shown(pool[name]) for name in _POOL.values()] for pool in value["pools"]]
        )
    if value["upstreams"]:
        click.echo()
        print_table(_WAYS, [row for one in value["upstreams"] for row in _rows(one)])


def _rows(upstream: dict[str, Any]) -> Iterator[list[str]]:
    """A row for each instance; one for an upstream that has none."""
    name, state = shown(upstream["upstream"]), shown(upstream["state"])
    made = [shown(upstream["opened"]), shown(upstream["failed"])]
    if not upstream["instances"]:
        yield [name, state, "", "", "", "", *made, shown(upstream["last_error"])]
    for one in upstream["instances"]:
        used = ", in use" if one["instance"] == upstream["in_use"] else ""
        numbers = [shown(one["sessions"]), shown(one["streams"])]
        error = shown(one["last_error"])
        yield [
            name,
            state,
            shown(one["instance"]),
            shown(one["state"]) + used,
            *numbers,
            *made,
            error,
        ]
        # They are the upstream's, not the instance's.
        name, state, made = "", "", ["", ""]


def _spoken(seconds: float) -> str:
    """A duration, to the two largest units."""
    left = int(seconds)
    found: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not found):
            found.append(f"{count} {unit}")
    return " ".join(found[:2])
