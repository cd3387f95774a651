"""What the commands that ask a running proxyd have in common: their options, and how they print."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from proxyd.ctl.client import Client, Where, printable

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--url", metavar="URL", help="The API's address; needs PROXYD_ADMIN_TOKEN."),
    click.option("--ca", metavar="FILE", help="Whose certificates are believed, with --url."),
    click.option("--socket", metavar="PATH", help="The API's UNIX socket."),
    click.option("-c", "--config", metavar="FILE", help="The configuration that names it."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


class Asking:
    """
    A command's client, and its way to print.

    @ivar client: speaks to proxyd
    @ivar as_json: print what proxyd answered as it is
    """

    def __init__(self, client: Client, as_json: bool) -> None:
        self.client = client
        self.as_json = as_json

    def done(self, value: Any, *lines: str) -> None:
        """
        Print what was done.

        @param value: proxyd's answer, for C{--json}
        @param lines: the same for people
        """
        if self.as_json:
            print_json(value)
            return
        for line in lines:
            click.echo(line)

    def table(self, value: Any, columns: Mapping[str, str], rows: Iterable[Any], none: str) -> None:
        """
        Print a list.

        @param columns: the headings, each with the name of what stands below it
        @param none: what is said where there are no rows
        """
        if self.as_json:
            print_json(value)
            return
        found = [[shown(row.get(name)) for name in columns.values()] for row in rows]
        if found:
            print_table(list(columns), found)
        else:
            click.echo(none)


def asks(command: F) -> F:
    """A command that asks a running proxyd: gets an L{Asking} as its first argument."""

    @functools.wraps(command)
    def run(
        *args: Any,
        url: str | None,
        ca: str | None,
        socket: str | None,
        config: str | None,
        as_json: bool,
        **options: Any,
    ) -> Any:
        if url is not None and (socket is not None or config is not None):
            raise click.UsageError("--url or the socket, not both")
        client = Client(Where(url, socket, config, ca), os.environ)
        return command(Asking(client, as_json), *args, **options)

    found: Any = run
    for option in reversed(_OPTIONS):
        found = option(found)
    wrapped: F = found
    return wrapped


def print_json(value: Any) -> None:
    """Print JSON for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table for people; in a pipe nothing is cut or wrapped."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    width = None if sys.stdout.isatty() else 100_000
    # What stands in a cell was named by somebody: it is text, whatever it looks like.
    console = Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def shown(value: Any) -> str:
    """A value in a cell."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(value)
