"""
C{proxyctl init}: a configuration to start from.
"""

from __future__ import annotations

import os
import secrets

import click

from proxyd.config.sample import SAMPLE


@click.command()
@click.argument("path", default="./proxyd.yaml")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(path: str, force: bool) -> None:
    """
    Write a commented configuration to PATH (./proxyd.yaml; - is stdout).

    Only its owner can read the file, since passwords may come to stand in it.
    """
    if path == "-":
        click.echo(SAMPLE, nl=False)
        return
    if path.endswith(".toml"):
        raise click.UsageError("init writes YAML: let the name end in .yaml")
    if os.path.isdir(path):
        raise click.ClickException(f"{path} is a folder: name a file")
    if force:
        _replace(path)
    else:
        _create(path)
    click.echo(f"wrote {path}; name your server in it, then: proxyctl check -c {path} --live")


def _create(path: str) -> None:
    """Write the sample where nothing is yet, C{O_EXCL} making sure of that."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.ClickException(f"{path} is there already: --force replaces it") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(SAMPLE)


def _replace(path: str) -> None:
    """Write the sample beside a file and put it in its place, whole or not at all."""
    beside = f"{path}.{secrets.token_hex(4)}"
    try:
        _create(beside)
        os.replace(beside, path)
    except OSError:
        if os.path.exists(beside):
            os.unlink(beside)
        raise
