"""Tests for L{proxyd.config.load}."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest

from proxyd.config.api_model import Api
from proxyd.config.load import NO_FLAGS, Flags, from_environment, load, load_config
from proxyd.config.model import Config, Postgres
from proxyd.config.sample import SAMPLE
from proxyd.config.ways import Socks5
from proxyd.errors import ConfigError
from tests.config.reading import MINIMAL, ReadingCase

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class LoadTests(ReadingCase):
    """A file as a configuration."""

    def test_empty(self) -> None:
        """An empty file opens nothing, with every default."""
        config = self.load("")
        self.assertEqual(config, Config(path=str(self.place / "proxyd.yaml")))
        self.assertEqual(config.drain_timeout, 30.0)

    def test_drain_timeout(self) -> None:
        """A duration, which may be none."""
        self.assertEqual(self.load("drain_timeout: 1m").drain_timeout, 60.0)
        self.assertEqual(self.load("drain_timeout: 0s").drain_timeout, 0.0)

    def test_all_at_once(self) -> None:
        """Every problem of every section, in the order of the file."""
        problems = self.wrong(
            """\
            log: {level: loud}
            drain_timeout: 30
            connections:
              a: {dsn: x}
              a: {dsn: y}
            postgres:
              max_clients: many
            postgrs: {}
            """,
            {"PROXY_PORT": "x"},
        )
        self.assertEqual(
            [problem.split(": ")[0] for problem in problems],
            ["proxyd.yaml:1", "proxyd.yaml:2", "proxyd.yaml:4", "proxyd.yaml:5", "proxyd.yaml:7",
             "proxyd.yaml:8", "environment"],
        )  # fmt: skip
        self.assertIn("did you mean postgres?", problems[5])

    def test_toml(self) -> None:
        """TOML has the same keys, and its problems their lines where they can be found."""
        problems = self.wrong(
            """\
            drain_timeout = 30
            [postgres]
            listen = [
              "127.0.0.1:1",
              "6432",
            ]
            tls.mode = "on"
            [connections.default]
            dsn = "postgresql://u@h/"
            max_idle_connections = 11
            started = 2020-01-01
            """,
            name="config.toml",
        )
        self.assertEqual(
            problems,
            [
                "config.toml:1: drain_timeout: 30 has no unit: 30s, 14m, 1h and 730d are durations",
                "config.toml:3: postgres.listen[1]: 6432 names no address: write 127.0.0.1:6432",
                (
                    "config.toml:7: postgres.tls.mode: on is not one of "
                    "disable, prefer, require, verify-full"
                ),
                (
                    "config.toml:10: connections.default.max_idle_connections: "
                    "11 is more than max_open_connections, 10"
                ),
                "config.toml:11: connections.default.started: is not a known key",
            ],
        )

    def test_dotenv_beside_file(self) -> None:
        """The .env beside the file is read: variables, and secrets by env:NAME."""
        config = self.load(MINIMAL + "    password: env:PW\n", dotenv="PW=x\nPROXY_PORT=7\n")
        password = config.connections["default"].password
        self.assertEqual(password and password.read(), "x")
        self.assertEqual(config.postgres and config.postgres.listen[0].port, 7)
        self.assertEqual(
            self.wrong("", dotenv="\nPROXY_PORT=x\n"),
            [".env:2: PROXY_PORT: x is not a port (1 to 65535)"],
        )

    def test_looks_at_nothing_else(self) -> None:
        """Files, variables and servers that a configuration names need not be there."""
        self.load(
            "postgres: {tls: {certificate: /no/c, key: /no/k}}\n"
            "state_key: file:/no/key\n" + MINIMAL + "    password: env:NO_SUCH_VARIABLE\n"
        )

    def test_not_a_file(self) -> None:
        """A path that can't be read is one problem."""
        folder = self.folder()
        for path in (folder, folder / "x.yaml"):
            error = self.assertRaises(ConfigError, load, str(path), environment={})
            self.assertEqual([problem.file for problem in error.problems], [str(path)])

    def test_malformed(self) -> None:
        """What is no YAML or TOML is one problem, with its line."""
        for name, text in (("a.yaml", "a: 1\nb: [\n"), ("a.toml", "a = 1\nb = [\n")):
            (problem,) = self.wrong(text, name=name)
            self.assertRegex(problem, rf"{name}:[23]: is not (YAML|TOML)")

    @given(
        st.one_of(
            st.text(max_size=200),
            st.lists(
                st.sampled_from(
                    ("connections:\n", "  default:\n", "    dsn: postgresql://u:p@h/\n",
                     "    auth: [backend, token]\n", "    allow: 10.0.0.1/8\n", "log:\n",
                     "  level: debug\n", "postgres:\n", "  listen: ['127.0.0.1:1']\n", "tokens:\n",
                     "state: sqlite:///x\n", "    max_open_connections: 3\n", "  - x\n", "a: &x\n",
                     "    aws_iam_auth: {enabled: true}\n", "b: *x\n", "  tls: {mode: require}\n")
                ),
                max_size=12,
            ).map("".join),
        )
    )  # fmt: skip
    def test_noise(self, text: str) -> None:
        """Whatever the file, it is a configuration or a ConfigError whose lines are printable."""
        folder = self.folder()
        for name in ("a.yaml", "a.toml"):
            path = folder / name
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
            try:
                config = load(str(path), environment={})
            except ConfigError as error:
                self.assertTrue(error.problems)
                for problem in error.problems:
                    self.assertTrue(str(problem).isprintable(), str(problem))
            else:
                self.assertIsInstance(config, Config)


class EnvironmentTests(ReadingCase):
    """No file at all."""

    def test_service_account(self) -> None:
        """A .env with a service account and a host is a whole configuration, on port 7777."""
        folder = self.folder()
        (folder / ".env").write_text(
            "GPRXY_USER=testuser\nGPRXY_PASS=testpass\nDB_HOST=localhost\n"
        )
        config = from_environment(directory=str(folder), environment={})
        self.assertIsNone(config.path)
        found = config.connections["default"]
        self.assertEqual((found.dsn.user, str(found.dsn.hosts[0])), ("testuser", "localhost:5432"))
        self.assertEqual(found.password and found.password.read(), "testpass")
        self.assertIsNone(found.dsn.database)
        self.assertEqual(config.postgres and config.postgres.listen[0].text, "127.0.0.1:7777")

    def test_proxy_variables(self) -> None:
        """The PROXY_* variables and JWT_SECRET at their own defaults."""
        environment = {
            "PROXY_PORT": "6432",
            "PROXY_POOL_SIZE": "10",
            "PROXY_HOST": "localhost",
            "JWT_SECRET": "x" * 32,
        }
        config = from_environment(directory=str(self.folder()), environment=environment)
        self.assertEqual(config.postgres, Postgres(public="localhost:6432"))
        self.assertEqual(config.connections, {})

    def test_problems(self) -> None:
        """What is wrong names the variable, and the .env's line."""
        folder = self.folder()
        (folder / ".env").write_text("PROXY_PORT=x\n")
        error = self.assertRaises(
            ConfigError, from_environment, directory=str(folder), environment={"DB_HOST": "a b"}
        )
        self.assertEqual(
            {(problem.file, problem.line, problem.key) for problem in error.problems},
            {
                (str(folder / ".env"), 1, "PROXY_PORT"),
                ("environment", None, "DB_HOST"),
                ("environment", None, "GPRXY_USER"),
            },
        )


class LoadConfigTests(ReadingCase):
    """The search and the load in one."""

    def test_file(self) -> None:
        """What is found is loaded, and the line for the log names it."""
        folder = self.folder()
        (folder / "config.yaml").write_text(MINIMAL)
        config, sentence = load_config(
            None, Flags(log_level="debug"), directory=str(folder), environment={"HOME": "/no"}
        )
        self.assertEqual(config.path, str(folder / "config.yaml"))
        self.assertEqual(sentence, f"configuration: {folder / 'config.yaml'}")
        self.assertEqual(config.log.level, "debug")

    def test_environment(self) -> None:
        """Without a file the environment is, and the line says so."""
        if os.path.exists("/etc/proxyd"):
            raise SkipTest("this machine has a configuration in /etc/proxyd")
        folder = str(self.folder())
        environment = {"HOME": folder, "GPRXY_USER": "svc"}
        config, sentence = load_config(None, NO_FLAGS, directory=folder, environment=environment)
        self.assertEqual(list(config.connections), ["default"])
        self.assertEqual(sentence, "configuration: from the environment (GPRXY_USER)")

    def test_explicit(self) -> None:
        """The file that was named."""
        path = self.folder() / "x.yaml"
        path.write_text("")
        config, _ = load_config(str(path), NO_FLAGS, directory=".", environment={})
        self.assertEqual(config.path, str(path))


class ExampleTests(ReadingCase):
    """The files that people start from are good."""

    def test_sample(self) -> None:
        """What `proxyctl init` writes loads without a word."""
        config = self.load(SAMPLE)
        self.assertEqual((config.warnings, config.later), ((), ()))
        self.assertEqual(config.postgres, Postgres())
        self.assertEqual(list(config.connections), ["default"])

    def test_sample_names_every_key(self) -> None:
        """Every key of a connection, of the listener and of the API stands in it."""
        for owner in (Postgres, Api, type(self.load(SAMPLE).connections["default"])):
            for name in owner.__dataclass_fields__:
                no_key = name in ("name", "on_demand") or name.endswith("_times")
                if not no_key:
                    self.assertIn(f"{name}:", SAMPLE)

    def test_sample_comments_are_defaults(self) -> None:
        """With the comments of its defaults taken away it means the same."""
        lines = []
        sample, rest = self.halves()
        for line in sample.splitlines():
            key = line.lstrip().removeprefix("# ")
            default = line.lstrip().startswith("# ") and ": " in key and "example" not in line
            keyword = key.partition(":")[0].strip()
            known = keyword in (
                "drain_timeout", "auth_timeout", "max_clients", "auth", "pool_mode", "reset",
                "max_open_connections", "min_idle_connections", "max_idle_connections",
                "connection_max_lifetime", "connection_max_idle_time", "health_check_period",
                "connect_timeout", "acquire_timeout", "identity",
            )  # fmt: skip
            lines.append(line.replace("# ", "", 1) if default and known else line)
        text = "\n".join(lines) + "\n" + rest
        self.assertNotEqual(text, SAMPLE.rstrip("\n"))
        plain = self.load(SAMPLE)
        spelled = self.load(text)
        self.assertEqual(spelled.connections, plain.connections)
        self.assertEqual(
            (spelled.postgres, spelled.drain_timeout), (plain.postgres, plain.drain_timeout)
        )

    def halves(self) -> tuple[str, str]:
        """The sample up to the part that is commented out as a whole, and that part."""
        start = SAMPLE.index("# SOCKS5, SOCKS4A")
        return SAMPLE[:start], SAMPLE[start:]

    def test_sample_socks(self) -> None:
        """The part about SOCKS5 and the ways out, without its marks, loads, and has every key."""
        sample, rest = self.halves()
        text = "\n".join(line.removeprefix("# ") for line in rest.splitlines() if line[:3] != "# S")
        text = text[text.index("socks5:") :].replace("Reverse agents", "# Reverse")
        text = text.replace("Ways out,", "# Ways").replace("Which target", "# Which")
        config = self.load(sample + text)
        self.assertEqual(
            [problem.key for problem in config.later],
            [],
        )
        self.assertEqual(list(config.upstreams), ["jump", "inner", "office", "dev", "prod"])
        assert config.agents is not None
        self.assertEqual((len(config.agents.proxies), config.agents.grace), (1, 30.0))
        assert config.socks5 is not None
        self.assertEqual(len(config.socks5.accounts), 2)
        self.assertEqual(len(config.routes), 5)
        for name in Socks5.__dataclass_fields__:
            if name != "accounts" and not name.endswith("_times"):
                self.assertIn(f"{name}:", rest)
        self.assertEqual(config.socks5.max_clients, Socks5(()).max_clients)

    def test_examples(self) -> None:
        """Every file of examples/ loads, and waits for no later version."""
        files = [path for path in EXAMPLES.iterdir() if path.suffix in (".yaml", ".toml")]
        self.assertIn("two-databases.yaml", [path.name for path in files])
        for path in files:
            config = load(str(path), environment={})
            self.assertEqual(config.later, (), path.name)

    def test_yaml_and_toml_agree(self) -> None:
        """The same configuration in both languages means the same."""
        yaml = load(str(EXAMPLES / "two-databases.yaml"), environment={})
        toml = load(str(EXAMPLES / "two-databases.toml"), environment={})
        self.assertEqual((yaml.postgres, yaml.connections), (toml.postgres, toml.connections))
