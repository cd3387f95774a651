"""Tests for L{proxyd.tap}: the real C{twistd -n proxyd}, its words and its exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
from contextlib import redirect_stdout

from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd import __version__
from proxyd.config.load import Flags
from proxyd.tap import Options
from tests.services.running import End, Running, twistd

GOOD = """
postgres: {listen: ["127.0.0.1:0"]}
connections:
  default: {dsn: "postgresql://svc@127.0.0.1:1/", min_idle_connections: 0}
"""


class OptionsTests(SynchronousTestCase):
    """The command line's words."""

    def parsed(self, *arguments: str) -> Options:
        """Options as twistd would have them."""
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def test_nothing(self) -> None:
        """Nothing said leaves everything to the file."""
        options = self.parsed()
        self.assertIsNone(options["config"])
        self.assertEqual(options.flags, Flags())

    def test_all(self) -> None:
        """Each option has its place."""
        options = self.parsed(
            "-c", "p.yaml", "--postgres-listen", "unix:/run/pg", "--socks5-listen=[::1]:1080",
            "--log-level", "debug",
        )  # fmt: skip
        self.assertEqual(options["config"], "p.yaml")
        self.assertEqual(
            options.flags,
            Flags(postgres_listen="unix:/run/pg", socks5_listen="[::1]:1080", log_level="debug"),
        )

    def test_version(self) -> None:
        """C{--version} tells ours."""
        out = io.StringIO()
        with redirect_stdout(out):
            ended = self.assertRaises(SystemExit, self.parsed, "--version")
        self.assertEqual((ended.code, out.getvalue()), (0, f"proxyd {__version__}\n"))


class TwistdTests(TestCase):
    """What a person at a terminal, or systemd, sees of C{twistd -n proxyd}."""

    def setUp(self) -> None:
        self.folder = self.mktemp()
        os.makedirs(self.folder)

    def file(self, text: str, name: str = "p.yaml") -> str:
        """A file in the daemon's directory; its name."""
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)
        return name

    def proxyd(self, *arguments: str) -> Running:
        """Run it."""
        home = os.path.abspath(self.folder)
        return twistd(
            self, "proxyd", *arguments, directory=self.folder, HOME=home, XDG_CONFIG_HOME=home
        )

    async def assert_refused(self, code: int, err: str, *arguments: str) -> None:
        """It ends with this code, these lines on stderr, nothing on stdout, no pid file."""
        running = self.proxyd(*arguments)
        end = await running.ended()
        self.assertEqual((running.err, running.out, end), (err, "", End(code, None)))
        self.assertNotIn("twistd.pid", os.listdir(self.folder))

    async def test_usage(self) -> None:
        """Wrong usage: one line, code 2."""
        for arguments, said in (
            (("--nonsense",), "option --nonsense not recognized"),
            (("--config",), "option --config requires argument"),
            (("start",), "unexpected argument 'start'"),
            (
                ("--log-level", "loud\x1b"),
                "--log-level 'loud\\x1b' is none of debug, info, warn, error, critical",
            ),
        ):
            line = f"proxyd: {said}; try twistd proxyd --help\n"
            await self.assert_refused(2, line, *arguments)

    async def test_help(self) -> None:
        """C{--help} is no failure."""
        running = self.proxyd("--help")
        self.assertEqual(await running.ended(), End(0, None))
        for part in ("-c, --config=", "--postgres-listen=", "--socks5-listen=", "--log-level="):
            self.assertIn(part, running.out)
        self.assertEqual(running.err, "")

    async def test_missing_file(self) -> None:
        """A file that is not there: one line, code 1."""
        await self.assert_refused(1, "none.yaml: there is no such file\n", "-c", "none.yaml")

    async def test_bad_configuration(self) -> None:
        """Each problem of a configuration is a line with its place."""
        name = self.file("log: {level: loud}\nconections: {}\n")
        running = self.proxyd("-c", name)
        self.assertEqual(await running.ended(), End(1, None))
        lines = running.err.splitlines()
        self.assertEqual(len(lines), 2, lines)
        self.assertTrue(lines[0].startswith("p.yaml:1: log.level: "), lines)
        self.assertTrue(lines[1].startswith("p.yaml:2: conections: "), lines)
        self.assertEqual(running.out, "")

    async def test_not_in_this_version(self) -> None:
        """What only a later version can do is refused at the start, by name."""
        name = self.file(GOOD.replace("min_idle", "identity: user, min_idle"))
        running = self.proxyd("-c", name)
        self.assertEqual(await running.ended(), End(1, None))
        self.assertEqual(len(running.err.splitlines()), 1, running.err)
        self.assertIn("p.yaml:4: connections.default.identity: user: not in this", running.err)
        self.assertEqual(running.out, "")

    async def test_port_taken(self) -> None:
        """A port that is taken: one line on stderr, code 1, no traceback, no pid file."""
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        running = self.proxyd("-c", self.file(GOOD), "--postgres-listen", where)
        self.assertEqual(await running.ended(), End(1, None))
        self.assertEqual(len(running.err.splitlines()), 1, running.err)
        self.assertTrue(running.err.startswith("proxyd: "), running.err)
        self.assertIn(where, running.err)
        self.assertNotIn("Traceback", running.out)
        self.assertNotIn("twistd.pid", os.listdir(self.folder))

    async def test_certificate_missing(self) -> None:
        """A certificate that is not there: one line that names it."""
        name = self.file(GOOD.replace("{listen", "{tls: {certificate: /none, key: /none}, listen"))
        line = "proxyd: certificate /none: No such file or directory\n"
        await self.assert_refused(1, line, "-c", name)

    async def test_log_from_the_first_line(self) -> None:
        """Every line of the log is ours, the first one too, and it says which file was read."""
        name = self.file("log: {format: json, level: debug}\n" + GOOD)
        running = self.proxyd("-c", name)
        await running.said("SIGHUP reloads")
        running.send(signal.SIGTERM)
        self.assertEqual(await running.ended(), End(None, signal.SIGTERM))
        records = [json.loads(line) for line in running.out.splitlines()]
        told = [record for record in records if record["level"] != "debug"]
        self.assertIn("configuration: p.yaml", told[0]["message"])
        self.assertEqual({record["system"].split(".")[0] for record in told}, {"proxyd"})
        self.assertEqual(running.err, "")
        self.assertNotIn("twistd.pid", os.listdir(self.folder))
