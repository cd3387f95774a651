"""
The files a server of ours is given: its configuration, pg_hba.conf, passwords and key.

All are written into a folder of our own, never into the server's data: what
belongs to another user may hold links that lead elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.ground import Account

# https://www.postgresql.org/docs/current/auth-pg-hba-conf.html; the first line that fits decides.
LAST_HBA = (
    "local all,replication all scram-sha-256",
    "host all,replication all 127.0.0.1/32 scram-sha-256",
    "host all,replication all ::1/128 scram-sha-256",
)
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def write_secret(path: Path, content: bytes, account: Account | None = None) -> None:
    """
    Write a file that only its owner may read, in place of an older one.

    @param account: who else is to read it, by its group (a server takes a key
        that is root's this way); None: nobody
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if account is not None and account.is_other:
            os.fchown(descriptor, -1, account.gid)
            os.fchmod(descriptor, 0o640)
        file.write(content)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a file that everyone may read."""
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o644)


def configuration_lines(data: Path, settings: Mapping[str, str]) -> list[str]:
    """
    A configuration file that takes what C{initdb} chose and then our settings.

    @param data: the data folder
    @param settings: values by name; quoted here
    """
    lines = [f"include {_quoted(str(data / 'postgresql.conf'))}"]
    return lines + [f"{name} = {_quoted(value)}" for name, value in settings.items()]


def _quoted(value: str) -> str:
    """A value as postgresql.conf wants it ("Setting Parameters": quotes are doubled)."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
