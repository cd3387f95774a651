"""Tests for L{proxyd.ctl.main}: proxyctl as people run it."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import click
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

import proxyd
from proxyd.config.sample import SAMPLE
from proxyd.ctl.main import DONE, FAILED, WRONG_USAGE, run
from proxyd.errors import ConfigError, Problem, StartError

CHECKOUT = Path(proxyd.__file__).resolve().parents[1]


class ProcessTests(TestCase):
    """Each case in a process of its own: what is said where, and the exit code."""

    def setUp(self) -> None:
        """An empty folder to run in."""
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)

    async def proxyctl(self, *arguments: str, **environment: str) -> tuple[str, str, int]:
        """Run proxyctl: its stdout, its stderr, its exit code."""
        out, err, code = await getProcessOutputAndValue(
            sys.executable,
            ["-m", "proxyd.ctl", *arguments],
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": str(CHECKOUT),
                "HOME": str(self.folder),
                **environment,
            },
            path=str(self.folder),
            reactor=reactor,
        )
        return out.decode(), err.decode(), code

    def skip_where_installed(self) -> None:
        """Without a file named, this machine's own configuration would be found."""
        if os.path.exists("/etc/proxyd"):
            raise SkipTest("this machine has a configuration in /etc/proxyd")

    def write(self, text: str, name: str = "proxyd.yaml") -> None:
        """A file in the folder."""
        (self.folder / name).write_text(text)

    async def test_init_then_check(self) -> None:
        """What init writes, check finds and likes; a second init does not overwrite it."""
        out, err, code = await self.proxyctl("init")
        self.assertEqual((err, code), ("", DONE))
        self.assertEqual(out.splitlines()[0].split(";")[0], "wrote ./proxyd.yaml")
        self.assertEqual((self.folder / "proxyd.yaml").read_text(), SAMPLE)
        opens = "PostgreSQL on 127.0.0.1:6432, 1 connection; API on its UNIX socket"
        self.assertEqual(
            await self.proxyctl("check"), (f"./proxyd.yaml: good; {opens}\n", "", DONE)
        )
        out, err, code = await self.proxyctl("init")
        self.assertEqual((out, code), ("", FAILED))
        self.assertEqual(err, "proxyctl: ./proxyd.yaml is there already: --force replaces it\n")

    async def test_live(self) -> None:
        """--live fails with exit code 1 where something that is named is not there."""
        self.write(SAMPLE)
        out, err, code = await self.proxyctl("check", "--live")
        self.assertEqual((out, code, err.count("\n")), ("", FAILED, 1))
        self.assertIn("failed: connections.default.password: variable GPRXY_PASS is not set", err)

    async def test_problems(self) -> None:
        """A bad file is refused on stderr, a line a problem, each with file and line."""
        self.write("drain_timeout: 30\nlisten_: x\n")
        out, err, code = await self.proxyctl("check", "-c", "proxyd.yaml")
        self.assertEqual((out, code), ("", FAILED))
        self.assertEqual(
            err.splitlines(),
            [
                (
                    "proxyd.yaml:1: drain_timeout: 30 has no unit: "
                    "30s, 14m, 1h and 730d are durations"
                ),
                "proxyd.yaml:2: listen_: is not a known key; did you mean listen?",
            ],
        )

    async def test_wrong_usage(self) -> None:
        """Wrong usage is one line on stderr and exit code 2."""
        for arguments in (
            (),
            ("chek",),
            ("check", "--liv"),
            ("check", "-c"),
            ("check", "too", "much"),
            ("init", "a.toml"),
            ("--nonsense",),
        ):
            out, err, code = await self.proxyctl(*arguments)
            self.assertEqual((out, code, err.count("\n")), ("", WRONG_USAGE, 1), arguments)
            self.assertTrue(err.startswith("proxyctl: "), err)

    async def test_failures(self) -> None:
        """What can't be done is one line on stderr and exit code 1."""
        self.write("not: [yaml\n", "broken.yaml")
        self.write("A B\n", ".env")
        for arguments in (
            ("check", "-c", "no-such.yaml"),
            ("check", "-c", "."),
            ("check", "-c", "broken.yaml"),
            ("check",),
            ("init", "no/such/folder/x.yaml"),
            ("init", "."),
            ("init", "--force", "no/such/folder/x.yaml"),
        ):
            out, err, code = await self.proxyctl(*arguments)
            self.assertEqual((out, code, err.count("\n")), ("", FAILED, 1), (arguments, err))
            self.assertNotIn("Traceback", err)

    async def test_nothing_to_check(self) -> None:
        """With no configuration, one line says where it looked and names init."""
        self.skip_where_installed()
        out, err, code = await self.proxyctl("check")
        self.assertEqual((out, code, err.count("\n")), ("", FAILED, 1))
        self.assertIn("./proxyd.yaml", err)
        self.assertIn(f"{self.folder}/.config/proxyd/config.yaml", err)
        self.assertIn("`proxyctl init`", err)

    async def test_environment(self) -> None:
        """Variables alone are a configuration, and can be checked."""
        self.skip_where_installed()
        out, err, code = await self.proxyctl("check", GPRXY_USER="svc", DB_HOST="db")
        self.assertEqual((err, code), ("", DONE))
        self.assertEqual(out, "the environment: good; PostgreSQL on 127.0.0.1:7777, 1 connection\n")

    async def test_version_and_help(self) -> None:
        """--version and --help answer on stdout."""
        self.assertEqual(
            await self.proxyctl("--version"), (f"proxyctl {proxyd.__version__}\n", "", DONE)
        )
        out, err, code = await self.proxyctl("--help")
        self.assertEqual((err, code), ("", DONE))
        for command in ("check", "init"):
            self.assertIn(command, out)

    async def test_reader_gone(self) -> None:
        """A reader that leaves early is no traceback."""
        out, err, _ = await getProcessOutputAndValue(
            "/bin/sh",
            ["-c", '"$0" -m proxyd.ctl init - | :', sys.executable],
            env={"PYTHONPATH": str(CHECKOUT), "PATH": os.environ.get("PATH", "")},
            path=str(self.folder),
            reactor=reactor,
        )
        self.assertEqual((out, err), (b"", b""))


class RunTests(SynchronousTestCase):
    """The exit codes."""

    def test_codes(self) -> None:
        """They are the ones that are documented."""
        self.assertEqual((DONE, FAILED, WRONG_USAGE), (0, 1, 2))

    def ended(self, error: BaseException) -> tuple[int, str]:
        """The exit code and the stderr of a command that ends by this exception."""

        @click.command()
        def failing() -> None:
            raise error

        with redirect_stderr(StringIO()) as said:
            code = run([], failing)
        return code, said.getvalue()

    def test_ends(self) -> None:
        """Each way to fail is one line, also a bug, whose text may hold a secret."""
        problem = Problem("f", 1, "a", "is wrong")
        for error, code, said in (
            (click.UsageError("no\nsuch"), WRONG_USAGE,
             "proxyctl: no such (proxyctl --help tells the commands)\n"),
            (click.ClickException("not now"), FAILED, "proxyctl: not now\n"),
            (click.Abort(), FAILED, "proxyctl: interrupted\n"),
            (KeyboardInterrupt(), FAILED, "\nproxyctl: interrupted\n"),  # after the terminal's ^C
            (ConfigError([problem, problem]), FAILED, "f:1: a: is wrong\n" * 2),
            (StartError("no key"), FAILED, "proxyctl: no key\n"),
            (PermissionError(13, "Permission denied", "/x"), FAILED,
             "proxyctl: /x: Permission denied\n"),
        ):  # fmt: skip
            self.assertEqual(self.ended(error), (code, said))
        code, said = self.ended(ValueError("hunter2"))
        self.assertEqual(code, FAILED)
        self.assertRegex(said, r"^proxyctl: a bug in proxyctl: ValueError at test_main.py:\d+\n$")
