"""C{proxyctl status}: how proxyd is."""

from __future__ import annotations

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


@click.command()
@asks
def status(asking: Asking) -> None:
    """Tell how proxyd is: its listeners, sessions and pools."""
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


def _spoken(seconds: float) -> str:
    """A duration, to the two largest units."""
    left = int(seconds)
    found: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not found):
            found.append(f"{count} {unit}")
    return " ".join(found[:2])
