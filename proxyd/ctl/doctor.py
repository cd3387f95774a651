"""C{proxyctl doctor}: what is wrong with the connections of a running proxyd, and what helps."""

from __future__ import annotations

import click

from proxyd.ctl.asking import Asking, asks, shown

_MARKS = {True: "ok", False: "FAILED", None: "-"}


@click.command()
@click.argument("connection", required=False)
@asks
def doctor(asking: Asking, connection: str | None) -> int:
    """
    Examine CONNECTION, or all: credentials, clock, logins, grants, lifetimes, renewal.

    The exit code is 1 when something is wrong.
    """
    body = {} if connection is None else {"connection": connection}
    report = asking.client.post("/api/doctor", body)
    lines = []
    for row in report["findings"]:
        lines.append(
            f"{_MARKS[row['good']]:6} {shown(row['connection'])}: {shown(row['check'])}: "
            f"{shown(row['what'])}"
        )
        if row["good"] is False and row["remedy"]:
            lines.append(f"       {shown(row['remedy'])}")
    asking.done(report, *(lines or ["there is no connection to examine"]))
    return 0 if report["good"] else 1
