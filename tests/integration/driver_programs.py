"""PostgreSQL's own programs through proxyd: psql, pgbench, pg_dump and pg_restore."""

from __future__ import annotations

import functools
from pathlib import Path

from tests.integration.drivers import DriverTestCase, database_of
from tests.support.database import CLIENT, DATABASE, SERVICE
from tests.support.programs import piped, run

CLIENTS = 4
TRANSACTIONS = 25


class ProgramTests(DriverTestCase):
    """What ships with PostgreSQL."""

    def psql(self, script: str) -> str:
        """What psql prints for a script that must succeed."""
        program = self.database.program("psql")
        command = [program, "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        return run(command, self.environment(), given=script).out

    def test_psql(self) -> None:
        """Queries, variables and what psql asks the catalogue."""
        out = self.psql(
            "\\set what items\n\\set name 'item 7'\n"
            "SELECT id FROM :\"what\" WHERE name = :'name' \\gset\n"
            "SELECT :id + 1;\n\\d items\n\\dt\n\\conninfo\n"
        )
        self.assertIn("8\n", out)
        self.assertIn("price|numeric(9,2)|", out)
        self.assertIn("items|table|svc", out)
        # As psql 17 and before say it, and as psql 18 does.
        secure = "SSL connection" in out or "SSL Connection|true" in out
        self.assertEqual(secure, self.tls)

    def test_psql_url(self) -> None:
        """A connection URL, as it is pasted."""
        program = self.database.program("psql")
        done = run([program, "-X", "-w", "-At", self.dsn, "-c", "SELECT 'pasted'"], self.libraries)
        self.assertEqual(done.out, "pasted\n")

    def test_psql_copy(self) -> None:
        """\\copy from a file and to one."""
        source, target = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        source.write_text("".join(f"{n}\tnote {n}\n" for n in range(20_000)))
        self.psql(
            f"CREATE TEMP TABLE copied (LIKE sink);\n\\copy copied from '{source}'\n"
            f"\\copy (SELECT * FROM copied ORDER BY id) to '{target}'\n"
        )
        self.assertEqual(target.read_text(), source.read_text())

    def test_psql_error(self) -> None:
        """An error within a script ends it with psql's own code for that."""
        program = self.database.program("psql")
        command = [program, "-X", "-w", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        done = run(command, self.environment(), given="SELECT 1/0;\n", good=False)
        self.assertEqual(done.code, 3)
        self.assertIn("division by zero", done.err)

    def test_pgbench_simple(self) -> None:
        """pgbench -M simple."""
        self.bench("-M", "simple")

    def test_pgbench_extended(self) -> None:
        """pgbench -M extended."""
        self.bench("-M", "extended")

    def test_pgbench_prepared(self) -> None:
        """pgbench -M prepared."""
        self.bench("-M", "prepared")

    def test_pgbench_connect(self) -> None:
        """pgbench -C: a connection a transaction."""
        self.bench("-C")

    def bench(self, *options: str) -> None:
        """Run pgbench; all its transactions must succeed."""
        fill(self.major)
        program = self.database.program("pgbench")
        command = [program, "-n", "-c", str(CLIENTS), "-t", str(TRANSACTIONS), *options]
        done = run(command, self.environment())
        total = CLIENTS * TRANSACTIONS
        self.assertIn(f"transactions actually processed: {total}/{total}\n", done.out)
        self.assertIn("failed transactions: 0 ", done.out)

    def test_dump_and_restore(self) -> None:
        """pg_dump | pg_restore, both through proxyd: the copy is the same."""
        fill(self.major)
        copy = f"copy_{self.auth}_{self.sslmode}"
        with self.database.admin("postgres") as admin:
            admin.query(f"DROP DATABASE IF EXISTS {copy} WITH (FORCE)")
            admin.query(f"CREATE DATABASE {copy} OWNER {SERVICE}")
        dump, restore = (self.database.program(name) for name in ("pg_dump", "pg_restore"))
        piped(
            [dump, "-w", "-Fc", "-Z0", DATABASE],
            self.environment(),
            [restore, "-w", "--exit-on-error", "--no-owner", "-d", copy],
            self.environment(copy),
        )
        self.assertEqual(self.dumped(copy), self.dumped(DATABASE))

    def dumped(self, database: str) -> list[str]:
        """A database as text, asked of the server itself."""
        command = [self.database.program("pg_dump"), "-w", "--no-owner", database]
        text = run(command, self.direct_environment(database)).out
        # Each dump guards itself by a random word of its own.
        return [line for line in text.splitlines() if "restrict " not in line]


class PsqlLoginTests(DriverTestCase):
    """How a failed login looks to a person."""

    auth = "backend"

    def test_wrong_password(self) -> None:
        """psql ends with 2 and says what is wrong, without another's name."""
        program = self.database.program("psql")
        environment = self.environment() | {"PGPASSWORD": "not it"}
        done = run([program, "-X", "-w", "-c", "SELECT 1"], environment, good=False)
        self.assertEqual(done.code, 2)
        self.assertIn(f'password authentication failed for user "{CLIENT}"', done.err)


@functools.cache
def fill(major: int | None) -> None:
    """Make pgbench's tables on the server of this version, once."""
    database = database_of(major)
    environment = {
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGUSER": SERVICE,
        "PGPASSWORD": database.passwords[SERVICE],
    }
    run([database.program("pgbench"), "-i", "-q", "-s", "1", DATABASE], environment)
