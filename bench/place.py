"""
Where a client goes and as whom: what the load programs are told.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class User:
    """A role of the database; its password is in no repr."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """
    One address of a database on loopback.

    @param database: the name asked for
    @param tls: the client asks for TLS and goes no other way
    """

    port: int
    database: str
    user: User
    tls: bool = False

    @property
    def host(self) -> str:
        """Loopback: the benchmarks go nowhere else."""
        return "127.0.0.1"

    @property
    def environment(self) -> dict[str, str]:
        """
        The variables that lead libpq there (PostgreSQL, libpq, environment variables).

        None of the caller's own PG* variables is left in it, and no encryption
        is tried that was not asked for.
        """
        variables = {name: value for name, value in os.environ.items() if name[:2] != "PG"}
        return variables | {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGDATABASE": self.database,
            "PGUSER": self.user.name,
            "PGPASSWORD": self.user.password,
            "PGSSLMODE": "require" if self.tls else "disable",
            "PGGSSENCMODE": "disable",
            "PGCONNECT_TIMEOUT": "30",
        }
