"""Tests for L{proxyd.config.connections}."""

from __future__ import annotations

from ipaddress import ip_network

from proxyd.config.model import AwsIam, Connection, Dsn
from proxyd.target import Target
from tests.config.reading import MINIMAL, ReadingCase


class ValueTests(ReadingCase):
    """Every key of a connection, and its default."""

    def test_defaults(self) -> None:
        """A connection with a DSN alone has the defaults of the reference."""
        self.assertEqual(
            self.load(MINIMAL).connections,
            {"default": Connection("default", Dsn((Target("db.internal", 5432),), "svc"))},
        )
        self.assertEqual(
            self.connection(""),
            Connection(
                "default",
                Dsn((Target("db.internal", 5432),), "svc", None, "prefer", {}),
                None, ("backend",), None, None, None, "session", "discard_all",
                10, 2, 10, 3600.0, 1800.0, 60.0, 10.0, 30.0, "service", None,
            ),
        )  # fmt: skip

    def test_whole(self) -> None:
        """Every key with a value of its own."""
        self.assertEqual(
            self.connection(
                """\
                driver: postgres
                password: env:PW
                auth: trust
                allow: ["10.0.0.0/8", "127.0.0.1"]
                databases: ["shop*"]
                users: [ann, "b*"]
                pool_mode: session
                reset: close
                max_open_connections: 20
                min_idle_connections: 0
                max_idle_connections: 5
                connection_max_lifetime: 20m
                connection_max_idle_time: 5m
                health_check_period: 30s
                connect_timeout: 5s
                acquire_timeout: 1500ms
                identity: set_role
                """,
                {"PW": "x"},
            ),
            Connection(
                name="default",
                dsn=Dsn((Target("db.internal", 5432),), "svc"),
                password=self.connection("password: env:PW").password,
                auth=("trust",),
                allow=(ip_network("10.0.0.0/8"), ip_network("127.0.0.1/32")),
                databases=("shop*",),
                users=("ann", "b*"),
                reset="close",
                max_open_connections=20,
                min_idle_connections=0,
                max_idle_connections=5,
                connection_max_lifetime=1200.0,
                connection_max_idle_time=300.0,
                health_check_period=30.0,
                connect_timeout=5.0,
                acquire_timeout=1.5,
                identity="set_role",
            ),
        )

    def test_several(self) -> None:
        """Connections keep their names and order; any text is a name."""
        config = self.load(
            """
            connections:
              orders: {dsn: postgresql://o@h/orders}
              default: {dsn: postgresql://d@h/}
              "12": {dsn: host=h user=n dbname=n}
              on: {dsn: postgresql://x@h/}
            """
        )
        self.assertEqual(list(config.connections), ["orders", "default", "12", "on"])
        self.assertEqual([one.name for one in config.connections.values()],
                         list(config.connections))  # fmt: skip

    def test_warm_follows_idle(self) -> None:
        """The default of min_idle_connections is never more than max_idle_connections."""
        for keys, sizes in (
            ("max_open_connections: 1", (1, 1, 1)),
            ("max_open_connections: 5", (5, 2, 5)),
            ("max_idle_connections: 1", (10, 1, 1)),
            ("max_idle_connections: 0", (10, 0, 0)),
        ):
            found = self.connection(keys)
            self.assertEqual(
                (
                    found.max_open_connections,
                    found.min_idle_connections,
                    found.max_idle_connections,
                ),
                sizes,
            )

    def test_password(self) -> None:
        """From its key, or from the DSN, where env: and file: mean themselves."""
        password = self.connection("password: env:PW", {"PW": "hunter2"}).password
        self.assertEqual(password and password.read(), "hunter2")
        config = self.load("connections: {a: {dsn: 'postgresql://u:env%3APW@h/'}}")
        inside = config.connections["a"].password
        self.assertEqual(inside and inside.read(), "env:PW")
        self.assertNotIn("env:PW", repr(config))

    def test_connect_timeout_of_dsn(self) -> None:
        """The DSN may say connect_timeout, in seconds."""
        config = self.load("connections: {a: {dsn: host=h user=u connect_timeout=3}}")
        self.assertEqual(config.connections["a"].connect_timeout, 3.0)


class RefusedTests(ReadingCase):
    """What can't be meant."""

    def test_contradictions(self) -> None:
        """All of them at once, each at its line."""
        self.assertEqual(
            self.connection_wrong(
                """\
                max_open_connections: 5
                max_idle_connections: 6
                min_idle_connections: 7
                databases: []
                users: []
                auth: [backend, trust]
                """
            ),
            [
                (
                    "proxyd.yaml:5: connections.default.max_idle_connections: "
                    "6 is more than max_open_connections, 5"
                ),
                (
                    "proxyd.yaml:6: connections.default.min_idle_connections: "
                    "7 is more than max_idle_connections, 5"
                ),
                (
                    "proxyd.yaml:7: connections.default.databases: "
                    "an empty list lets nobody in: leave it out for any"
                ),
                (
                    "proxyd.yaml:8: connections.default.users: "
                    "an empty list lets nobody in: leave it out for any"
                ),
                "proxyd.yaml:9: connections.default.auth: is one of its words, or [backend, token]",
            ],
        )

    def test_bounds(self) -> None:
        """Sizes and times that no pool can have."""
        for keys in ("max_open_connections: 0", "min_idle_connections: -1",
                     "connection_max_lifetime: 0s", "acquire_timeout: 30",
                     "max_open_connections: 10001"):  # fmt: skip
            (problem,) = self.connection_wrong(keys)
            self.assertIn(f"proxyd.yaml:4: connections.default.{keys.split(':')[0]}: ", problem)

    def test_words(self) -> None:
        """Unknown words are told with those that are known."""
        for keys, hint in (
            ("driver: mysql", "is not one of postgres"),
            ("auth: backends", "did you mean backend?"),
            ("pool_mode: sesion", "did you mean session?"),
            ("reset: never", "is not one of discard_all, close"),
            ("identity: client", "is not one of service, set_role, user"),
            ("max_conns: 5", "is not a known key"),
            ("pasword: x", "did you mean password?"),
        ):
            (problem,) = self.connection_wrong(keys)
            self.assertIn(hint, problem)

    def test_dsn(self) -> None:
        """A DSN is needed, must name a user, and is told without its text."""
        for text, what in (
            ("connections: {a: {}}", "connections.a: has no dsn"),
            ("connections: {a: }", "connections.a: has no dsn"),
            ("connections: {a: {dsn: postgresql://h/}}", "a.dsn: names no user"),
            ("connections: {a: postgresql://u@h/}", "a: must be a mapping"),
            ("connections: [a]", "connections: must be a mapping"),
            ("connections: {'': {dsn: postgresql://u@h/}}", "needs a name"),
            (
                "connections: {db_7: {dsn: postgresql://u@h/}}",
                "connections.db_7: db_NUMBER is for databases that are registered",
            ),
        ):
            (problem,) = self.wrong(text)
            self.assertIn(what, problem)
            self.assertIn("proxyd.yaml:1: ", problem)
        (problem,) = self.wrong("connections: {a: {dsn: 'postgresql://u:hunter2/x@h/'}}")
        self.assertNotIn("hunter2", problem)

    def test_given_twice(self) -> None:
        """A password or timeout beside one in the DSN contradicts it."""
        problems = self.wrong(
            """\
            connections:
              a:
                dsn: postgresql://u:hunter2@h/?connect_timeout=3
                password: x
                connect_timeout: 5s
            """
        )
        self.assertEqual(
            problems,
            [
                (
                    "proxyd.yaml:4: connections.a.password: the dsn has a password, too: "
                    "leave one of them out"
                ),
                (
                    "proxyd.yaml:5: connections.a.connect_timeout: the dsn has one, too: "
                    "leave one of them out"
                ),
            ],
        )

    def test_databases_of_others(self) -> None:
        """Only `default` serves names other than its own."""
        (problem,) = self.wrong("connections: {a: {dsn: postgresql://u@h/, databases: x}}")
        self.assertIn("connections.a.databases: is for `default` only", problem)


class TrustTests(ReadingCase):
    """auth: trust is for loopback."""

    def text(self, listen: str, allow: str = "") -> str:
        """A file with a trusting connection behind a listener."""
        return (
            f"postgres: {{listen: '{listen}'}}\n"
            f"connections:\n  a: {{dsn: postgresql://u@h/, auth: trust{allow}}}\n"
        )

    def test_loopback(self) -> None:
        """Loopback and UNIX sockets are fine, and so is a list that lets only loopback in."""
        for listen in ("127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/pg"):
            self.load(self.text(listen))
        self.load(self.text("0.0.0.0:1", ", allow: [127.0.0.0/8, '::1']"))

    def test_elsewhere(self) -> None:
        """Any other listener is refused, at the line of auth, and even beside a wrong DSN."""
        for listen in ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "systemd:pg", "tcp:1"):
            (problem,) = self.wrong(self.text(listen))
            self.assertIn("proxyd.yaml:3: connections.a.auth: trust is for loopback", problem)
        self.assertEqual(len(self.wrong(self.text("0.0.0.0:1", ", allow: 10.0.0.0/8"))), 1)
        self.assertEqual(
            len(self.wrong(self.text("0.0.0.0:1").replace("postgresql://u@h/", "x"))), 2
        )


class LaterTests(ReadingCase):
    """Values of later versions are known by name."""

    def test_words(self) -> None:
        """Each loads, and is told as not in this version yet."""
        for keys, told in (
            ("auth: scram", "auth: scram"),
            ("pool_mode: transaction", "pool_mode: transaction"),
            ("pool_mode: statement", "pool_mode: statement"),
            ("identity: user", "identity: user"),
        ):
            config = self.load(MINIMAL + f"    {keys}\n")
            self.assertEqual(
                [str(one).replace(f"{self.place}/", "") for one in config.later],
                [f"proxyd.yaml:4: connections.default.{told}: not in this version yet"],
            )


class IamTests(ReadingCase):
    """Logins by IAM tokens."""

    EXAMPLE = """\
        connections:
          default:
            driver: postgres
            dsn: "postgresql://user@host:5432/db?sslmode=require"

            # Connection pool settings
            max_open_connections: 10
            max_idle_connections: 2

            connection_max_lifetime: "14m"
            connection_max_idle_time: "10m"

            # IAM authentication
            aws_iam_auth:
              enabled: true
              region: "us-east-1"
              db_user: "your_iam_user"  # Optional, extracted from DSN if not set
              connection_timeout: "10s"
        """

    def test_example(self) -> None:
        """The example of token rotation loads unmodified, with a warning for its sslmode."""
        config = self.load(self.EXAMPLE)
        found = config.connections["default"]
        self.assertEqual(found.connection_max_lifetime, 840.0)
        self.assertEqual((found.max_open_connections, found.max_idle_connections), (10, 2))
        self.assertEqual(found.dsn.database, "db")
        self.assertEqual(config.later, ())
        self.assertEqual(found.dsn.user, "your_iam_user")
        self.assertEqual(found.aws_iam_auth, AwsIam("us-east-1", "your_iam_user", None, 10.0))
        (warning,) = config.warnings
        self.assertIn("sslmode=require with aws_iam_auth", str(warning))

    def iam(self, keys: str = "", iam: str = "enabled: true") -> str:
        """A connection that logs in by IAM."""
        return (
            "connections:\n  a:\n    dsn: postgresql://u@h/?sslmode=verify-full\n"
            f"    aws_iam_auth: {{{iam}}}\n    {keys}\n"
        )

    def test_defaults(self) -> None:
        """With IAM, connections live 14 minutes and idle 10."""
        found = self.load(self.iam()).connections["a"]
        self.assertEqual(found.connection_max_lifetime, 840.0)
        self.assertEqual(found.connection_max_idle_time, 600.0)

    def test_lifetime(self) -> None:
        """15 minutes and more is refused with the reason; a second less is not."""
        for lifetime in ("15m", "900s", "1h"):
            (problem,) = self.wrong(self.iam(f"connection_max_lifetime: {lifetime}"))
            self.assertIn(
                "proxyd.yaml:5: connections.a.connection_max_lifetime: must be less than 15m",
                problem,
            )
            self.assertIn("good for 15 minutes", problem)
        self.load(self.iam("connection_max_lifetime: 899s"))

    def test_not_enabled(self) -> None:
        """Where it is not enabled, nothing changes and nothing is for later."""
        config = self.load(self.iam("connection_max_lifetime: 1h", "enabled: false"))
        self.assertEqual(config.later, ())

    def test_types(self) -> None:
        """Its keys are checked."""
        problems = self.wrong(
            self.iam(iam="enabled: yes, region: 5, profile: [x], connection_timeout: 10, db_usr: x")
        )
        self.assertEqual(
            sorted(problem.split(": ")[1].rpartition(".")[2] for problem in problems),
            ["connection_timeout", "db_usr", "enabled", "profile", "region"],
        )
        (problem,) = self.wrong(self.iam(iam="region: us-east-1"))
        self.assertIn("does not say enabled", problem)

    def test_password(self) -> None:
        """A password contradicts it."""
        (problem,) = self.wrong(self.iam("password: x"))
        self.assertIn("proxyd.yaml:5: connections.a.password: a password contradicts", problem)

    def test_user(self) -> None:
        """db_user stands in for the DSN's user."""
        text = self.iam(iam="enabled: true, db_user: x").replace("u@h", "h")
        self.assertEqual(self.load(text).connections["a"].dsn.user, "x")
