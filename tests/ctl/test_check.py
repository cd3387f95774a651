"""Tests for L{proxyd.ctl.check}."""

from __future__ import annotations

import json
from pathlib import Path

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.model import Config
from proxyd.ctl.check import check, summary
from proxyd.errors import ConfigError

GOOD = "connections: {default: {dsn: 'postgresql://svc@db/', password: env:PROXYD_TEST_PASSWORD}}\n"
LATER = "connections: {a: {dsn: postgresql://u@h/x, identity: user, pool_mode: transaction}}\n"


class CheckTests(SynchronousTestCase):
    """What check says of a file."""

    def setUp(self) -> None:
        """A place for a file."""
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.path = self.folder / "x.yaml"

    def check(self, text: str, *arguments: str, **environment: str) -> tuple[str, str, object]:
        """Check a text: stdout, stderr, and the exit code or what was raised."""
        self.path.write_text(text)
        self.path.chmod(0o600)
        result = CliRunner(env=environment).invoke(
            check, ["-c", str(self.path), *arguments], standalone_mode=False
        )
        ended = result.exception if result.exception is not None else result.return_value
        return result.stdout, result.stderr, ended

    def test_good(self) -> None:
        """A good file is one line."""
        out, err, code = self.check(GOOD)
        expected = f"{self.path}: good; PostgreSQL on 127.0.0.1:6432, 1 connection\n"
        self.assertEqual((out, err, code), (expected, "", None))

    def test_api(self) -> None:
        """What else it would open is told as well."""
        out, _, _ = self.check(GOOD + "api:\n")
        self.assertIn("1 connection; API on its UNIX socket\n", out)
        out, _, _ = self.check("api: {listen: '127.0.0.1:8080'}\n")
        self.assertIn("good; API on 127.0.0.1:8080\n", out)
        out, _, _ = self.check("socks5:\nagents: {listen: '127.0.0.1:8443'}\n")
        self.assertIn("good; SOCKS5 on 127.0.0.1:1080; agents on 127.0.0.1:8443\n", out)

    def test_notes(self) -> None:
        """Keys for later are notes, what should be looked at a warning, and the file is good."""
        out, err, code = self.check(LATER)
        self.assertEqual((err, code), ("", None))
        self.assertEqual(
            [line.replace(str(self.path), "x") for line in out.splitlines()],
            [
                "note: x:1: connections.a.identity: user: not in this version yet",
                "note: x:1: connections.a.pool_mode: transaction: not in this version yet",
                "x: good; PostgreSQL on 127.0.0.1:6432, 1 connection",
            ],
        )

    def test_bad(self) -> None:
        """A bad file's problems go to the door that prints them."""
        out, _, error = self.check("a: 1\nb: 2\n")
        self.assertEqual(out, "")
        assert isinstance(error, ConfigError)
        self.assertEqual([problem.line for problem in error.problems], [1, 2])

    def test_live(self) -> None:
        """--live fails where a variable is not set, and goes on to the servers where it is."""
        out, err, code = self.check(GOOD, "--live")
        self.assertEqual((out, code), ("", 1))
        self.assertIn("failed: connections.default.password: variable PROXYD_TEST_PASSWORD", err)
        nowhere = GOOD.replace("@db/", "@127.0.0.1:1/")
        out, err, code = self.check(nowhere, "--live", PROXYD_TEST_PASSWORD="hunter2")
        self.assertEqual(
            (out, err, code),
            ("", "failed: connections.default: 127.0.0.1:1: connection refused\n", 1),
        )

    def test_json_good(self) -> None:
        """--json is one object with everything that the text says."""
        out, _, code = self.check(LATER, "--json")
        self.assertEqual(code, None)
        self.assertEqual(
            json.loads(out),
            {
                "good": True,
                "file": str(self.path),
                "problems": [],
                "warnings": [],
                "later": [
                    {
                        "file": str(self.path),
                        "line": line,
                        "key": key,
                        "what": f"{about}not in this version yet",
                    }
                    for line, key, about in (
                        (1, "connections.a.identity", "user: "),
                        (1, "connections.a.pool_mode", "transaction: "),
                    )
                ],
                "live": [],
            },
        )

    def test_json_bad(self) -> None:
        """A bad file is told in JSON on stdout, and in one line besides."""
        out, _, error = self.check("a: 1\nb: 2\n", "--json")
        said = json.loads(out)
        self.assertFalse(said["good"])
        self.assertEqual([problem["key"] for problem in said["problems"]], ["a", "b"])
        assert isinstance(error, click.ClickException)
        self.assertEqual(str(error), "2 things are wrong with the configuration")

    def test_json_live(self) -> None:
        """What a look around has found stands in the object, which then is not good."""
        out, _, code = self.check(GOOD, "--json", "--live")
        said = json.loads(out)
        self.assertEqual((said["good"], code), (False, 1))
        (finding,) = said["live"]
        self.assertEqual((finding["failed"], finding["where"]),
                         (True, "connections.default.password"))  # fmt: skip

    def test_nothing_opened(self) -> None:
        """A configuration that opens nothing is said to."""
        self.assertEqual(summary(Config()), "it opens nothing")
