"""Tests for L{proxyd.agent_tap}: C{twistd proxyd-agent} as a person types it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.agent_tap import Options, agent_service
from proxyd.errors import StartError
from tests.services.running import End, Running, twistd


class OptionsTests(SynchronousTestCase):
    """The command line's words."""

    def options(self, *arguments: str) -> Options:
        """As twistd would have them."""
        options = Options()
        options.parseOptions(["--server", "wss://h/agent", *arguments])
        return options

    def service(self, options: Options, **environment: str) -> Any:
        """The agent."""
        return agent_service(options, MemoryReactorClock(), environment)

    def test_token(self) -> None:
        """By file or variable; one that is missing, empty or odd is a line."""
        file = Path(self.mktemp())
        file.write_text("pxa_token\n")
        self.service(self.options("--token-file", str(file)))
        self.service(self.options(), PROXYD_AGENT_TOKEN="pxa_token")
        for text in ("", "two words", "ümlaut"):
            file.write_text(text)
            self.assertRaises(StartError, self.service, self.options("--token-file", str(file)))
        self.assertRaises(StartError, self.service, self.options())
        self.assertRaises(StartError, self.service, self.options("--token-file", "/none/token"))

    def test_allow(self) -> None:
        """May be said several times; what is no pattern is a line."""
        options = self.options("--allow", "db:5432", "--allow", "10.0.0.0/8")
        self.assertEqual(options["allow"], ["db:5432", "10.0.0.0/8"])
        bad = self.options("--allow", "10.0.*")
        self.assertRaises(StartError, self.service, bad, PROXYD_AGENT_TOKEN="x")


class TwistdTests(TestCase):
    """The whole command."""

    timeout = 60

    def agent(self, *arguments: str) -> Running:
        """Started."""
        folder = self.mktemp()
        Path(folder).mkdir(parents=True)
        return twistd(self, "proxyd-agent", *arguments, directory=folder)

    async def test_usage(self) -> None:
        """Wrong usage is one line, and 2."""
        for arguments in ((), ("--nope",), ("--server", "wss://h", "--ca", "a", "--pin", "b")):
            running = self.agent(*arguments)
            self.assertEqual(await running.ended(), End(2, None))
            self.assertEqual(len(running.err.splitlines()), 1, running.err)

    async def test_refused(self) -> None:
        """What can't start is one line, and 1."""
        running = self.agent("--server", "wss://h/agent", "--token-file", "/none/token")
        self.assertEqual(await running.ended(), End(1, None))
        self.assertEqual(
            running.err, "proxyd-agent: token file /none/token: No such file or directory\n"
        )
