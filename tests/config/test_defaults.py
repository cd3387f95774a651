"""Tests for L{proxyd.config.defaults}."""

from __future__ import annotations

from proxyd.config.model import Connection, Dsn
from proxyd.target import Target
from tests.config.reading import MINIMAL, ReadingCase

ACCOUNT = {"GPRXY_USER": "testuser", "GPRXY_PASS": "testpass", "DB_HOST": "localhost"}


class DefaultConnectionTests(ReadingCase):
    """The connection that the variables make."""

    def default(self, environment: dict[str, str], text: str = "") -> Connection:
        """The connection C{default}."""
        return self.load(text, environment).connections["default"]

    def test_account(self) -> None:
        """User, password and host make a connection with every other default."""
        found = self.default(ACCOUNT)
        self.assertEqual(
            found,
            Connection("default", Dsn((Target("localhost", 5432),), "testuser"), found.password),
        )
        self.assertEqual(found.password and found.password.read(), "testpass")

    def test_hosts(self) -> None:
        """DB_HOST in each of its forms; absent, localhost."""
        for text, host in (
            ("db", "db:5432"),
            ("db:5433", "db:5433"),
            ("10.0.0.1:5433", "10.0.0.1:5433"),
            ("::1", "[::1]:5432"),
            ("[::1]", "[::1]:5432"),
            ("[::1]:5433", "[::1]:5433"),
            ("/run/postgresql", "/run/postgresql/.s.PGSQL.5432"),
            ("", "localhost:5432"),
        ):
            found = self.default({**ACCOUNT, "DB_HOST": text})
            self.assertEqual([str(one) for one in found.dsn.hosts], [host])

    def test_pool_size(self) -> None:
        """PROXY_POOL_SIZE is the default of every connection's max_open_connections."""
        found = self.default({**ACCOUNT, "PROXY_POOL_SIZE": "1"})
        self.assertEqual(
            (found.max_open_connections, found.min_idle_connections, found.max_idle_connections),
            (1, 1, 1),
        )
        config = self.load(
            "connections: {a: {dsn: host=h user=u}, "
            "b: {dsn: host=h user=u, max_open_connections: 7}}",
            {"PROXY_POOL_SIZE": "25"},
        )
        self.assertEqual([one.max_open_connections for one in config.connections.values()], [25, 7])
        self.assertEqual((config.pool_size, self.load("connections: {}", {}).pool_size), (25, 10))

    def test_wrong(self) -> None:
        """Each wrong variable is told by its own name, all at once."""
        problems = self.wrong(
            "", {"GPRXY_USER": "a\0", "DB_HOST": "a b", "PROXY_POOL_SIZE": "0", "PROXY_PORT": "x"}
        )
        self.assertEqual(
            sorted(problem.split(": ")[1] for problem in problems),
            ["DB_HOST", "GPRXY_USER", "PROXY_POOL_SIZE", "PROXY_PORT"],
        )
        for size in ("ten", "-1", "99999999999999999999", "٣"):
            self.assertEqual(len(self.wrong("", {"PROXY_POOL_SIZE": size})), 1)

    def test_no_user(self) -> None:
        """A password or host without a user is told, as nothing can log in."""
        for name in ("GPRXY_PASS", "DB_HOST"):
            (problem,) = self.wrong("", {name: "hunter2"})
            self.assertEqual(
                problem,
                f"environment: GPRXY_USER: is not set, though {name} is: it names the service user",
            )


class BesideFileTests(ReadingCase):
    """Variables beside a file, which wins over them."""

    def test_fills_in(self) -> None:
        """They fill in what the DSN of `default` leaves out, and only there."""
        text = """\
            connections:
              default: {dsn: "postgresql:///?sslmode=require"}
              orders: {dsn: "postgresql://o@h/"}
            """
        config = self.load(text, {**ACCOUNT, "DB_HOST": "db:5433"})
        found = config.connections["default"]
        self.assertEqual(found.dsn, Dsn((Target("db", 5433),), "testuser", None, "require"))
        self.assertEqual(found.password and found.password.place, "env:GPRXY_PASS")
        self.assertIsNone(config.connections["orders"].password)

    def test_without_dsn(self) -> None:
        """A `default` without a DSN is made of them."""
        found = self.load("connections: {default: {reset: close}}", ACCOUNT).connections["default"]
        self.assertEqual((found.dsn.user, found.reset), ("testuser", "close"))

    def test_file_wins(self) -> None:
        """What the file says stays."""
        found = self.load(MINIMAL + "    password: file\n", ACCOUNT).connections["default"]
        self.assertEqual(str(found.dsn.hosts[0]), "db.internal:5432")
        self.assertEqual((found.dsn.user, found.password and found.password.read()),
                         ("svc", "file"))  # fmt: skip

    def test_adds_default(self) -> None:
        """GPRXY_USER adds `default` to a file that has none; a password or host alone does not."""
        text = "connections: {orders: {dsn: 'postgresql://o@h/', password: env:GPRXY_PASS}}"
        self.assertEqual(list(self.load(text, ACCOUNT).connections), ["orders", "default"])
        lent = {"GPRXY_PASS": "x", "DB_HOST": "y"}
        self.assertEqual(list(self.load(text, lent).connections), ["orders"])
