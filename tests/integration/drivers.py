"""
What is common to all drivers: where they connect, as whom, and with what.

The tests of each driver are in C{driver_*.py}; which ways they go, and so how
often they run, is in L{tests.integration.test_drivers}.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.support.blackbox import (
    BlackBoxTestCase,
    configuration,
    open_service,
    service,
    shared_daemon,
)
from tests.support.daemon import Daemon
from tests.support.database import CLIENT, DATABASE, SERVICE, Database, shared_database


class DriverTestCase(BlackBoxTestCase):
    """
    A driver's tests, each run in every way.

    @cvar auth: how clients log in
    @cvar tls: whether they speak TLS
    @cvar major: the server's version; None: the one that all other tests have
    """

    auth = "trust"
    tls = False
    major: int | None = None

    def setUp(self) -> None:
        """Have a proxyd whose clients log in this way."""
        super().setUp()
        start = backed if self.auth == "backend" else trusted
        self.proxy: Daemon = self.watch(shared_daemon(start(self.database)))

    @property
    def database(self) -> Database:
        """The server behind, with its roles and tables."""
        return database_of(self.major)

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

    @property
    def libraries(self) -> dict[str, str]:
        """
        What libpq's programs need to speak TLS, where they were built without.

        Those of the wheel with PostgreSQL 18 were; psycopg brings along the very
        same version of libpq with it.
        """
        built_without = self.tls and not self.database.cluster.certificate.exists()
        return {"LD_PRELOAD": libpq()} if built_without else {}

    def environment(self, database: str = DATABASE) -> dict[str, str]:
        """What libpq's programs read from their environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        kept |= {"PGHOST": self.proxy.host, "PGPORT": str(self.proxy.port), "PGUSER": CLIENT}
        kept |= {"PGDATABASE": database, "PGSSLMODE": self.sslmode, "PGCONNECT_TIMEOUT": "20"}
        return kept | self.libraries | ({"PGPASSWORD": self.password} if self.password else {})

    def direct_environment(self, database: str = DATABASE) -> dict[str, str]:
        """The same for the server itself, as the service user."""
        there = {"PGHOST": self.database.host, "PGPORT": str(self.database.port)}
        login = {"PGUSER": SERVICE, "PGPASSWORD": self.database.passwords[SERVICE]}
        return self.environment(database) | there | login | {"PGSSLMODE": "prefer"}


def database_of(major: int | None) -> Database:
    """The server of this version; None: the one that all tests share."""
    return shared_database() if major is None else shared_database(major)


def backed(database: Database) -> str:
    """
    Clients show the password they have on the server; TLS to the server, verified.

    Without TLS where the server was built without it.
    """
    certificate = database.cluster.certificate
    words = {"sslmode": "verify-full", "sslrootcert": str(certificate)}
    dsn = database.dsn(**(words if certificate.exists() else {"sslmode": "disable"}))
    return configuration({"default": service(database, dsn=dsn, auth="backend")})


def trusted(database: Database) -> str:
    """Clients need no password; no TLS to the server."""
    fixed = open_service(database)
    named = service(database, auth="trust")
    return configuration({DATABASE: fixed, "default": named})


def libpq() -> str:
    """
    The path of a libpq 18 with TLS: the one that psycopg[binary] has.

    @raise SkipTest: there is none
    """
    try:
        import psycopg_binary
    except ImportError:
        raise SkipTest("psycopg[binary] is not installed, and its libpq is needed") from None
    package = psycopg_binary.__path__[0]
    found = sorted(Path(f"{package}.libs").glob("libpq-*.so.5.18"))
    if not found:
        raise SkipTest("psycopg[binary] has no libpq 18")
    return str(found[-1])
