"""
C{proxyctl check}: is a configuration good?
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

import click

from proxyd.config.load import NO_FLAGS, load_config
from proxyd.config.model import Config, Listener
from proxyd.ctl import live
from proxyd.ctl.live import Finding
from proxyd.errors import ConfigError, Problem


@click.command()
@click.option("-c", "--config", "path", metavar="FILE", help="The configuration to look at.")
@click.option(
    "--live", "look_around", is_flag=True, help="Look at files, variables and servers, too."
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_context
def check(context: click.Context, path: str | None, look_around: bool, as_json: bool) -> None:
    """
    Say what is wrong with a configuration, all at once.

    Without -c it is the one that proxyd itself would find. Notes name the
    keys that this version does not know how to do yet: the file is good, but
    proxyd does not start with it.
    """
    try:
        config, _ = load_config(path, NO_FLAGS, directory=".", environment=os.environ)
    except ConfigError as error:
        if not as_json:
            raise
        _print_json(path, problems=error.problems)
        count = len(error.problems)
        things = "one thing is" if count == 1 else f"{count} things are"
        raise click.ClickException(f"{things} wrong with the configuration") from None
    findings = live.check_all(config) if look_around else []
    if as_json:
        _print_json(config.path, config=config, findings=findings)
    else:
        _print_text(config, findings)
    if any(finding.failed for finding in findings):
        context.exit(1)


def _print_text(config: Config, findings: Iterable[Finding]) -> None:
    for problem in config.warnings:
        click.echo(f"warning: {problem}")
    for problem in config.later:
        click.echo(f"note: {problem}")
    good = True
    for finding in findings:
        good = good and not finding.failed
        click.echo(f"{'failed' if finding.failed else 'warning'}: {finding}", err=finding.failed)
    if good:
        click.echo(f"{config.path or 'the environment'}: good; {summary(config)}")


def _print_json(
    path: str | None,
    *,
    problems: Iterable[Problem] = (),
    config: Config | None = None,
    findings: Iterable[Finding] = (),
) -> None:
    """One object: C{good}, C{file}, C{problems}, C{warnings}, C{later}, C{live}."""
    found = list(findings)
    click.echo(
        json.dumps(
            {
                "good": config is not None and not any(finding.failed for finding in found),
                "file": path,
                "problems": [_as_json(problem) for problem in problems],
                "warnings": [_as_json(problem) for problem in (config.warnings if config else ())],
                "later": [_as_json(problem) for problem in (config.later if config else ())],
                "live": [
                    {"failed": finding.failed, "where": finding.where, "what": finding.what}
                    for finding in found
                ],
            },
            indent=2,
        )
    )


def _as_json(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file or None,
        "line": problem.line,
        "key": problem.key,
        "what": problem.what,
    }


def summary(config: Config) -> str:
    """In a few words, what proxyd would open."""
    opened = []
    if config.postgres is not None and not config.postgres.on_demand:
        count = len(config.connections)
        opened.append(
            f"PostgreSQL on {_places(config.postgres.listen)}, "
            f"{count} connection{'' if count == 1 else 's'}"
        )
    if config.socks5 is not None:
        opened.append(f"SOCKS5 on {_places(config.socks5.listen)}")
    if config.agents is not None:
        opened.append(f"agents on {_places(config.agents.listen)}")
    if config.api is not None:
        opened.append(f"API on {_places(config.api.listen) or 'its UNIX socket'}")
    return "; ".join(opened) or "it opens nothing"


def _places(listeners: Iterable[Listener]) -> str:
    return ", ".join(place.text for place in listeners)
