"""
The drivers on other versions of PostgreSQL than all other tests have.

17 comes from a wheel with OpenSSL: TLS to clients and to the server. 18 comes
from one without: TLS to clients, whose libpq is psycopg's. A version that this
machine has itself is taken from there. By default a few tests of each driver
run; C{PROXYD_SOAK=1} runs all of L{tests.integration.test_drivers} on each.
"""

from __future__ import annotations

import unittest

from twisted.trial.runner import TestSuite

from tests.integration import driver_libraries as libraries
from tests.integration import driver_programs as programs
from tests.integration.drivers import DriverTestCase
from tests.support.programs import run
from tests.support.seeds import SOAK

MAJORS = (17, 18)

FEW = (
    "test_psql",
    "test_psql_copy",
    "test_pgbench_prepared",
    "test_pgbench_connect",
    "test_dump_and_restore",
    "test_psycopg_pipeline",
    "test_psycopg_cancel_safe",
    "test_asyncpg_queries",
    "test_pg8000_queries",
)
"""What runs by default, with a password inside TLS."""


class AllDrivers(
    programs.ProgramTests,
    libraries.PsycopgTests,
    libraries.AsyncpgTests,
    libraries.Pg8000Tests,
):
    """All tests of all drivers."""


class Libpq18Tests(DriverTestCase):
    """psql 18, and what it may insist on."""

    auth = "backend"
    tls = True
    major = 18

    def psql(self, *words: str, good: bool = True) -> str:
        """What psql prints for its connection, or why there is none."""
        program = self.database.program("psql")
        place = f"host=127.0.0.1 port={self.proxy.port} sslmode=require"
        command = [program, "-X", "-w", "-At", " ".join((place, *words))]
        question = "SELECT version() ~ '^PostgreSQL 18'"
        done = run([*command, "-c", question, "-c", "\\conninfo"], self.environment(), good=good)
        self.assertEqual(done.code, 0 if good else 2)
        return done.out if good else done.err

    def test_direct_tls(self) -> None:
        """sslnegotiation=direct: TLS from the first byte."""
        out = self.psql("sslnegotiation=direct")
        self.assertTrue(out.startswith("t\n"), out)
        self.assertIn("TLSv1.3", out)

    def test_newest_protocol(self) -> None:
        """min_protocol_version=3.2 is met, and shown."""
        out = self.psql("min_protocol_version=3.2")
        self.assertIn("Protocol Version|3.2", out)

    def test_oldest_protocol(self) -> None:
        """max_protocol_version=3.0 is, too."""
        self.assertIn("Protocol Version|3.0", self.psql("max_protocol_version=3.0"))

    def test_require_password(self) -> None:
        """require_auth=password: what proxyd asks for with auth: backend."""
        self.assertIn("t\n", self.psql("require_auth=password"))

    def test_require_scram(self) -> None:
        """A client that insists on SCRAM is told by its own libpq that it is not to be had."""
        err = self.psql("require_auth=scram-sha-256", good=False)
        self.assertIn("cleartext password", err)

    def test_require_binding(self) -> None:
        """A client that insists on channel binding gives no password away without it."""
        err = self.psql("channel_binding=require", good=False)
        self.assertIn("channel binding required", err)


def testSuite() -> unittest.TestSuite:
    """The tests that trial runs of this module."""
    suite = TestSuite()
    names = unittest.TestLoader().getTestCaseNames
    for major in MAJORS:
        for auth in ("backend", "trust"):
            for tls in (True, False):
                name = f"{auth.title()}{'Tls' if tls else 'Plain'}{major}Tests"
                way = type(name, (AllDrivers,), {"auth": auth, "tls": tls, "major": major})
                globals()[name] = way
                few = FEW if auth == "backend" and tls else ()
                suite.addTests(way(one) for one in (names(way) if SOAK else few))
    suite.addTests(Libpq18Tests(one) for one in names(Libpq18Tests))
    return suite
