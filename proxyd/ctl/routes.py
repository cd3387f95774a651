"""C{proxyctl routes}: which way a target goes."""

from __future__ import annotations

import click

from proxyd.ctl.asking import Asking, asks


@click.group()
def routes() -> None:
    """Ask which way a target goes."""


@routes.command("explain")
@click.argument("target", metavar="HOST:PORT")
@click.option("--user", help="Whose rules count.")
@asks
def explain(asking: Asking, target: str, user: str | None) -> None:
    """
    Say which route takes a target, by which way, and why. Nothing is dialled.
    """
    value = asking.client.get("/api/routes/explain", target=target, user=user)
    asking.done(value, *value["lines"])
