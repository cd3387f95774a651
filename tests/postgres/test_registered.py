"""
Tests of L{proxyd.postgres.registered}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.postgres.registered import Registered
from proxyd.records import Conflict, Invalid, Unknown
from proxyd.store.memory import MemoryStore
from proxyd.store.seal import Seal
from proxyd.target import Target

DSN = "postgresql://svc@db.example:5433/shop"


def denies(target: Target) -> str | None:
    """The rule of these tests."""
    return "it is evil" if target.host == "evil.example" else None


class RegisteredTests(SynchronousTestCase):
    """Databases that come and go."""

    def setUp(self) -> None:
        self.store = MemoryStore()
        self.successResultOf(self.store.open())
        self.changes = 0
        self.registered = self.make()

    def make(self, key: bytes = b"key") -> Registered:
        """One that follows the store."""
        registered = Registered(Clock(), self.store, Seal(key), denies, pool_size=7)
        registered.watch(self._count)
        self.successResultOf(registered.load())
        return registered

    def _count(self) -> None:
        self.changes += 1

    def test_register(self) -> None:
        """It becomes a connection with the usual pool, for tokens only."""
        before = self.changes
        found = self.successResultOf(self.registered.register("shop", DSN, "hunter2"))
        self.assertGreater(self.changes, before)
        self.assertEqual(found.client_name, f"db_{found.database_id}")
        connection = self.registered.connections[found.client_name]
        self.assertEqual(connection.auth, ("token",))
        self.assertEqual(connection.dsn.hosts, (Target("db.example", 5433),))
        self.assertEqual((connection.dsn.user, connection.dsn.database), ("svc", "shop"))
        assert connection.password is not None
        self.assertEqual(connection.password.read(), "hunter2")
        self.assertEqual(connection.max_open_connections, 7)
        self.assertEqual(connection.min_idle_connections, 2)
        self.assertEqual(
            (
                connection.health_check_period,
                connection.connection_max_lifetime,
                connection.connection_max_idle_time,
            ),
            (60.0, 3600.0, 1800.0),
        )

    def test_nothing_leaks(self) -> None:
        """The password is in no record, in clear, and in nothing that is shown."""
        dsn = "postgresql://svc:hunter2@db.example/shop?connect_timeout=5"
        shown = self.successResultOf(self.registered.register("shop", dsn, None))
        [record] = self.successResultOf(self.store.databases())
        for text in (repr(shown), repr(record), str(record.sealed), record.dsn):
            self.assertNotIn("hunter2", text)
        self.assertEqual(self.successResultOf(self.registered.listed()), [shown])

    def test_zone(self) -> None:
        """An IPv6 address with a zone is kept as what it is, and nothing behind its % is a word."""
        dsn = "host='fd00::1%x?hostaddr=127.0.0.1' user=svc dbname=shop"
        found = self.successResultOf(self.registered.register("shop", dsn, None))
        (host,) = self.registered.connections[found.client_name].dsn.hosts
        self.assertEqual((host.host, host.address), ("fd00::1%x?hostaddr=127.0.0.1", ""))

    def test_again_after_a_restart(self) -> None:
        """What was registered is there again, the same; without the key it is not served."""
        self.successResultOf(
            self.registered.register(
                "shop", DSN + "?sslmode=verify-full&sslrootcert=system", "päss"
            )
        )
        self.assertEqual(self.make().connections, self.registered.connections)
        self.assertEqual(self.make(b"another").connections, {})

    def test_remove(self) -> None:
        """It goes; what is not there can't."""
        found = self.successResultOf(self.registered.register("shop", DSN, None))
        before = self.changes
        self.successResultOf(self.registered.remove(found.database_id))
        self.assertGreater(self.changes, before)
        self.assertEqual(self.registered.connections, {})
        self.failureResultOf(self.registered.remove(found.database_id), Unknown)

    def test_name_taken(self) -> None:
        """A name is used once."""
        self.successResultOf(self.registered.register("shop", DSN, None))
        self.failureResultOf(self.registered.register("shop", DSN, None), Conflict)

    def test_refused(self) -> None:
        """A DSN from outside names no file, no socket, no forbidden host."""
        for dsn in (
            "nonsense",
            "postgresql://svc@evil.example/shop",
            "postgresql://svc@good.example,evil.example/shop",
            "postgresql://svc@/shop?host=/var/run/postgresql",
            "postgresql://svc@%2Ftmp/shop",
            DSN + "?sslrootcert=/etc/passwd",
            DSN + "?sslcert=/etc/passwd&sslkey=/etc/shadow",
            DSN + "?passfile=/etc/passwd",
            DSN + "?service=x",
            DSN + "?hostaddr=127.0.0.1",
            DSN + "?no_such_word=1",
            "postgresql://db.example/shop",
            "postgresql://svc@db.example",
            "postgresql://svc@db.example/shop?" + "x" * 5000,
        ):
            failure = self.failureResultOf(self.registered.register("n", dsn, None), Invalid)
            self.assertTrue(str(failure.value).startswith("dsn: "), str(failure.value))
        for name in ("", "x" * 201, "a\nb"):
            self.failureResultOf(self.registered.register(name, DSN, None), Invalid)
        for password in ("\0", "x" * 70_000):
            self.failureResultOf(self.registered.register("n", DSN, password), Invalid)
        two = "postgresql://svc:one@db.example/shop"
        self.failureResultOf(self.registered.register("n", two, "two"), Invalid)
        self.assertEqual(self.registered.connections, {})
