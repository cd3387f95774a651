"""
The PostgreSQL behind all sides: started for one run, filled with pgbench's tables.

It runs without fsync: what is measured is the way to it. Who reaches it over
TCP proves himself by SCRAM, but for the service user, as whom the proxies go
there. How that one logs in is not measured, and pgbouncer can't log it in by
SCRAM once a client proved himself to it by a SCRAM verifier (its issue 1461).
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.place import Place, User
from bench.programs import BenchFailed, Missing, find_program
from demo.binaries import NoServer
from demo.cluster import Cluster
from demo.programs import ClusterError

NAME = "bench"
SCALE = 10
MAX_CONNECTIONS = 160
FILL_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Database:
    """
    A running PostgreSQL with pgbench's tables at scale 10.

    @param binaries: the folder of the server's own programs
    @param service: owns the tables; as whom the proxies go to the server, which trusts it
    @param client: as whom clients log in; may read the tables
    @param verifier: the client's SCRAM verifier, as the server keeps it
    """

    port: int
    binaries: Path
    service: User
    client: User
    verifier: str

    def place(self, user: User) -> Place:
        """The direct way there, as this user."""
        return Place(self.port, NAME, user)

    def psql(self, sql: str) -> str:
        """
        What the statements answer when the service user runs them directly, bare.

        @raise BenchFailed: the server refused them
        """
        psql = find_program("psql", (self.binaries,))
        return run([psql, "-XAtqv", "ON_ERROR_STOP=1", "-c", sql], self.place(self.service))


def run(argv: list[str | Path], place: Place, seconds: float = FILL_SECONDS) -> str:
    """
    The output of a client program that is led to a place, in a session of its own.

    @param seconds: how long it may take before it is ended
    @raise BenchFailed: it failed or took too long
    """
    name = Path(argv[0]).name
    try:
        done = subprocess.run(
            argv,
            env=place.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchFailed(f"{name} took longer than {seconds:.0f} s") from None
    if done.returncode != 0:
        raise BenchFailed(f"{name} failed: {' '.join(done.stderr.split())[-500:]}")
    return done.stdout


@contextmanager
def started_database() -> Iterator[Database]:
    """
    A PostgreSQL of our own, gone when the block is left.

    @raise Missing: no PostgreSQL server or no pgbench is on this machine
    @raise BenchFailed: it does not start or can't be filled
    """
    service, client = users = [
        User(f"bench_{role}", secrets.token_hex(16)) for role in ("service", "client")
    ]
    cluster = Cluster(
        settings={"max_connections": str(MAX_CONNECTIONS), "max_wal_size": "2GB"},
        hba=[f"host {NAME} {service.name} 127.0.0.1/32 trust"],
    )
    try:
        cluster.start()
        try:
            for user in users:
                cluster.psql(f"CREATE ROLE {user.name} LOGIN PASSWORD '{user.password}'")
            cluster.psql(f"CREATE DATABASE {NAME} OWNER {service.name}")
            verifier = cluster.psql(
                f"SELECT rolpassword FROM pg_authid WHERE rolname = '{client.name}'"
            )
            database = Database(cluster.port, cluster.binaries, service, client, verifier)
            pgbench = find_program("pgbench", (database.binaries,))
            run([pgbench, "-iqs", str(SCALE)], database.place(service))
            database.psql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC")
            yield database
        finally:
            cluster.stop()
    except NoServer as error:
        raise Missing(f"a PostgreSQL server ({error})") from error
    except ClusterError as error:
        raise BenchFailed(" ".join(str(error).split())) from error
