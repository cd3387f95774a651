"""
What is common to all drivers: where they connect, as whom, and with what.

The tests of each driver are in C{driver_*.py}; which ways they go, and so how
often they run, is in L{tests.integration.test_drivers}.
"""

from __future__ import annotations

import os

from tests.support.blackbox import (
    BlackBoxTestCase,
    configuration,
    open_service,
    service,
    shared_daemon,
)
from tests.support.daemon import Daemon
from tests.support.database import CLIENT, DATABASE, SERVICE, Database


class DriverTestCase(BlackBoxTestCase):
    """
    A driver's tests, each run in every way.

    @cvar auth: how clients log in
    @cvar tls: whether they speak TLS
    """

    auth = "trust"
    tls = False

    def setUp(self) -> None:
        """Have a proxyd whose clients log in this way."""
        super().setUp()
        start = backed if self.auth == "backend" else trusted
        self.proxy: Daemon = self.watch(shared_daemon(start(self.database)))

    @property
    def password(self) -> str:
        """The client's password; empty where none is asked for."""
        return self.database.passwords[CLIENT] if self.auth == "backend" else ""

    @property
    def sslmode(self) -> str:
        """libpq's word for what is wanted."""
        return "require" if self.tls else "disable"

    @property
    def dsn(self) -> str:
        """libpq's connection string."""
        password = f":{self.password}" if self.password else ""
        place = f"{self.proxy.host}:{self.proxy.port}/{DATABASE}"
        return f"postgresql://{CLIENT}{password}@{place}?sslmode={self.sslmode}"

    def environment(self, database: str = DATABASE) -> dict[str, str]:
        """What libpq's programs read from their environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        kept |= {"PGHOST": self.proxy.host, "PGPORT": str(self.proxy.port), "PGUSER": CLIENT}
        kept |= {"PGDATABASE": database, "PGSSLMODE": self.sslmode, "PGCONNECT_TIMEOUT": "20"}
        return kept | ({"PGPASSWORD": self.password} if self.password else {})

    def direct_environment(self, database: str = DATABASE) -> dict[str, str]:
        """The same for the server itself, as the service user."""
        there = {"PGHOST": self.database.host, "PGPORT": str(self.database.port)}
        login = {"PGUSER": SERVICE, "PGPASSWORD": self.database.passwords[SERVICE]}
        return self.environment(database) | there | login


def backed(database: Database) -> str:
    """Clients show the password they have on the server; TLS to the server, verified."""
    dsn = database.dsn(sslmode="verify-full", sslrootcert=str(database.cluster.certificate))
    return configuration({"default": service(database, dsn=dsn, auth="backend")})


def trusted(database: Database) -> str:
    """Clients need no password; no TLS to the server."""
    fixed = open_service(database)
    named = service(database, auth="trust")
    return configuration({DATABASE: fixed, "default": named})
