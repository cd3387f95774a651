"""Tests for L{proxyd.config.sections}."""

from __future__ import annotations

from ipaddress import ip_network

from proxyd.config.model import Listener, Log, Postgres, PostgresTls, State
from proxyd.config.sections import Flags
from tests.config.reading import MINIMAL, ReadingCase


class StateTests(ReadingCase):
    """C{state} and C{state_key}."""

    def test_default(self) -> None:
        """Absent, the state directory is meant."""
        self.assertEqual(self.load("").state, State())

    def test_sqlite(self) -> None:
        """A file, its home put in."""
        for text, url in (
            ("sqlite:///var/lib/proxyd/state.sqlite", "sqlite:///var/lib/proxyd/state.sqlite"),
            ("sqlite:////var/lib/x", "sqlite:///var/lib/x"),
            ("sqlite://~/x", "sqlite:///home/ann/x"),
        ):
            config = self.load(f"state: {text}", {"HOME": "/home/ann"})
            self.assertEqual(config.state.url, url)

    def test_key(self) -> None:
        """The key is a secret, looked at later."""
        key = self.load("state_key: file:/no/such/file").state.key
        self.assertEqual(key and key.place, "file:/no/such/file")

    def test_refused(self) -> None:
        """Other schemes, and paths that are not whole, are refused."""
        for text in ("mysql://x/y", "sqlite://x", "sqlite:x", "/var/lib/x"):
            self.assertEqual(
                self.wrong(f"state: {text}"),
                ["proxyd.yaml:1: state: must be sqlite:///PATH (postgresql:// for several nodes)"],
            )

    def test_more_than_a_path(self) -> None:
        """What sqlite:// of other programs may say has no effect here, so it is refused."""
        for text in ("sqlite:///x?mode=ro", "sqlite:///x#y"):
            (problem,) = self.wrong(f"state: '{text}'")
            self.assertIn("state: takes no parameters", problem)

    def test_no_connection_string(self) -> None:
        """A URI that libpq can't read is refused, and nothing of it quoted."""
        more = "\nstate_key: env:K\ntokens: {secret: env:S}"
        for uri, what in (
            ("u:hunter2@h:port/db", "its port is not a number"),
            ("u:hunter2@h/db?foo=bar", "foo is not a parameter of libpq"),
            ("u:hunter2@h/db?foo@bar", "a parameter after the ? is not libpq's"),
            ("u:hunter2 x@h/db", "has a space in it (which is written %20)"),
            ("u:hunter%2@h/db", "a % in it is not followed by two hexadecimal digits"),
            ("u:hunter2@[::1/db", "a [ in the host has no ]"),
            ("u:hun@ter2@h/db", "its host is not a name or an IP address"),
        ):
            [problem] = self.wrong(f"state: 'postgresql://{uri}'{more}")
            self.assertIn(f"state: {what}", problem)
            self.assertNotIn("hunter2", problem)
            self.assertNotIn("ter2", problem)
        for uri in ("u@/db?host=/run/x", "u@a,b:5/db?target_session_attrs=any", "h?passfile=x"):
            self.load(f"state: 'postgresql://{uri}'{more}")

    def test_shared(self) -> None:
        """A shared store needs the keys that its nodes share, and is never shown."""
        self.assertEqual(
            self.wrong("state: postgresql://u:hunter2@h/db"),
            [
                "proxyd.yaml:1: state: several nodes share this store: state_key must be given",
                "proxyd.yaml:1: state: several nodes share this store: tokens.secret must be given",
            ],
        )
        text = "state: postgresql://u:hunter2@h/db\nstate_key: env:K\n"
        self.load(text, {"JWT_SECRET": "x" * 32})
        config = self.load(text + "tokens: {secret: env:S}")
        self.assertEqual(config.later, ())
        self.assertNotIn("hunter2", repr(config))


class LogTests(ReadingCase):
    """The section C{log}."""

    def test_whole(self) -> None:
        """Every key; off and on are texts."""
        config = self.load("log: {level: debug, format: json, statements: on}")
        self.assertEqual(config.log, Log("debug", "json", "on"))
        self.assertEqual(self.load("log:\n").log, Log("info", "text", "off"))

    def test_flag(self) -> None:
        """--log-level wins over the file, and is checked."""
        config = self.load("log: {level: debug}", flags=Flags(log_level="error"))
        self.assertEqual(config.log.level, "error")
        self.assertEqual(
            self.wrong("", flags=Flags(log_level="warning")),
            [("--log-level: warning is not one of debug, info, warn, error, critical; "
             "did you mean warn?")],
        )  # fmt: skip

    def test_refused(self) -> None:
        """Unknown words and keys, all at once."""
        self.assertEqual(
            self.wrong("log:\n  level: loud\n  format: xml\n  statements: true\n  colour: red\n"),
            [
                "proxyd.yaml:2: log.level: loud is not one of debug, info, warn, error, critical",
                "proxyd.yaml:3: log.format: xml is not one of text, json",
                (
                    "proxyd.yaml:4: log.statements: must be text, not true or false: "
                    "write it in quotes"
                ),
                "proxyd.yaml:5: log.colour: is not a known key",
            ],
        )


class PostgresTests(ReadingCase):
    """The section C{postgres}."""

    def test_absent(self) -> None:
        """Nothing asks for it: nothing is opened."""
        self.assertIsNone(self.load("log: {}").postgres)

    def test_opened(self) -> None:
        """The section, connections or a variable open it at its default address."""
        for text, environment in (
            ("postgres:", {}),
            ("connections:", {}),
            (MINIMAL, {}),
            ("", {"PROXY_HOST": ""}),
            ("", {"PROXY_POOL_SIZE": "3"}),
        ):
            opened = self.load(text, environment).postgres
            expected = None if environment.get("PROXY_HOST") == "" else Postgres()
            self.assertEqual(opened, expected, (text, environment))

    def test_whole(self) -> None:
        """Every key."""
        config = self.load(
            """
            postgres:
              listen: ["127.0.0.1:1", "unix:~/pg"]
              proxy_protocol: 10.0.0.0/8
              public: "db.example:6432"
              tls: {mode: verify-full, certificate: ~/c, key: /k, client_ca: /a}
              auth_timeout: 10s
              max_clients: 5
            """,
            {"HOME": "/home/ann"},
        )
        self.assertEqual(
            config.postgres,
            Postgres(
                listen=(
                    Listener("127.0.0.1:1", "tcp", "127.0.0.1", 1),
                    Listener("unix:~/pg", "unix", path="/home/ann/pg"),
                ),
                proxy_protocol=(ip_network("10.0.0.0/8"),),
                public="db.example:6432",
                tls=PostgresTls("verify-full", "/home/ann/c", "/k", "/a"),
                auth_timeout=10.0,
                max_clients=5,
            ),
        )

    def test_refused(self) -> None:
        """What is wrong, all at once and in the order of the file."""
        self.assertEqual(
            self.wrong(
                """\
                postgres:
                  listen: ["127.0.0.1:1", "ssl:443", "6432"]
                  proxy_protocol: [balancer]
                  public: db.example
                  auth_timeout: 0s
                  max_clients: 0
                  lsten: x
                """
            ),
            [
                "proxyd.yaml:2: postgres.listen[2]: 6432 names no address: write 127.0.0.1:6432",
                (
                    "proxyd.yaml:3: postgres.proxy_protocol[0]: balancer is not an address "
                    "or a CIDR block (10.0.0.0/8)"
                ),
                "proxyd.yaml:4: postgres.public: db.example names no port: HOST:PORT",
                "proxyd.yaml:5: postgres.auth_timeout: must be more than no time",
                "proxyd.yaml:6: postgres.max_clients: must be from 1 to 1000000, not 0",
                "proxyd.yaml:7: postgres.lsten: is not a known key; did you mean listen?",
            ],
        )

    def test_unfit_endpoints(self) -> None:
        """An endpoint that speaks TLS or PROXY by itself is refused, with what to say."""
        for text, hint in (("ssl:443", "postgres.tls"), ("haproxy:tcp:1", "proxy_protocol"),
                           ("stdio:", "no listener")):  # fmt: skip
            (problem,) = self.wrong(f"postgres: {{listen: '{text}'}}")
            self.assertIn(hint, problem)

    def test_tls_contradictions(self) -> None:
        """A certificate without its key, proof of clients without a CA, a CA without TLS."""
        for keys, where in (
            ("certificate: /c", "certificate: goes together with key"),
            ("key: /k", "key: goes together with certificate"),
            ("mode: verify-full", "mode: verify-full asks clients for certificates"),
            ("mode: disable, client_ca: /a", "client_ca: contradicts mode: disable"),
        ):
            (problem,) = self.wrong(f"postgres: {{tls: {{{keys}}}}}")
            self.assertIn(f"proxyd.yaml:1: postgres.tls.{where}", problem)

    def test_no_connection(self) -> None:
        """A listener with nothing behind it is warned of."""
        (warning,) = self.load("postgres:").warnings
        self.assertIn("connections: there are none", str(warning))
        self.assertEqual(self.load(MINIMAL).warnings, ())


class ListenTests(ReadingCase):
    """Who says where to listen: the command line, the file, the variables, the default."""

    def listen(self, text: str, flags: Flags | None = None, **environment: str) -> list[str]:
        """Where it listens."""
        config = self.load(text, environment, flags=flags or Flags())
        assert config.postgres is not None
        return [place.text for place in config.postgres.listen]

    def test_order(self) -> None:
        """--postgres-listen, then the file, then PROXY_PORT, then the default."""
        flags = Flags(postgres_listen="[::1]:5")
        text = "postgres: {listen: '127.0.0.1:4'}"
        self.assertEqual(self.listen(text, flags, PROXY_PORT="3"), ["[::1]:5"])
        self.assertEqual(self.listen("", flags), ["[::1]:5"])
        self.assertEqual(self.listen(text, PROXY_PORT="3"), ["127.0.0.1:4"])
        self.assertEqual(self.listen("postgres:", PROXY_PORT="3"), ["127.0.0.1:3"])
        self.assertEqual(self.listen("postgres:"), ["127.0.0.1:6432"])

    def test_service_account_alone(self) -> None:
        """GPRXY_* without a port mean 7777, but not where a file has PostgreSQL of its own."""
        self.assertEqual(self.listen("", GPRXY_USER="svc"), ["127.0.0.1:7777"])
        self.assertEqual(self.listen("", GPRXY_USER="svc", PROXY_PORT="3"), ["127.0.0.1:3"])
        self.assertEqual(self.listen(MINIMAL, GPRXY_PASS="x"), ["127.0.0.1:6432"])

    def test_wrong(self) -> None:
        """What is wrong with the command line or a variable names it."""
        flags = Flags(postgres_listen="6432")
        self.assertEqual(
            self.wrong("", flags=flags),
            ["--postgres-listen: 6432 names no address: write 127.0.0.1:6432"],
        )
        self.assertIn("stdio", self.wrong("", flags=Flags(postgres_listen="stdio:"))[0])
        self.assertEqual(
            self.wrong("", {"PROXY_PORT": "99999"}),
            ["environment: PROXY_PORT: 99999 is not a port (1 to 65535)"],
        )

    def test_public(self) -> None:
        """PROXY_HOST is announced with the listener's port, unless the file says otherwise."""
        for text, host, public in (
            ("postgres:", "db.example", "db.example:6432"),
            ("postgres:", "::1", "[::1]:6432"),
            ("postgres:", "db.example:1", "db.example:1"),
            ("postgres: {listen: '127.0.0.1:0'}", "db.example", "db.example"),
            ("postgres: {public: 'a:1'}", "db.example", "a:1"),
        ):
            config = self.load(text, {"PROXY_HOST": host})
            self.assertEqual(config.postgres and config.postgres.public, public)
        self.assertEqual(
            self.wrong("", {"PROXY_HOST": "a b"}),
            ["environment: PROXY_HOST: a b is not a host name or an IP address"],
        )


class SecretTests(ReadingCase):
    """What is warned of."""

    def test_token_secret(self) -> None:
        """A short JWT_SECRET is warned of, and not shown."""
        warnings = [str(one) for one in self.load(MINIMAL, {"JWT_SECRET": "hunter2"}).warnings]
        self.assertEqual(len(warnings), 1)
        self.assertIn("environment: JWT_SECRET: is shorter than 32 bytes", warnings[0])
        self.assertNotIn("hunter2", "".join(warnings))
        self.assertEqual(self.load(MINIMAL, {"JWT_SECRET": "x" * 32}).warnings, ())
