"""Tests for L{proxyd.ctl.init}."""

from __future__ import annotations

import stat
from pathlib import Path

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.sample import SAMPLE
from proxyd.ctl.init import init


class InitTests(SynchronousTestCase):
    """A configuration to start from."""

    def setUp(self) -> None:
        """A place for a file."""
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.path = self.folder / "x.yaml"

    def init(self, *arguments: str) -> tuple[str, BaseException | None]:
        """Run init: what it said, and what it raised."""
        result = CliRunner().invoke(init, list(arguments), standalone_mode=False)
        return result.output, result.exception

    def test_written(self) -> None:
        """The sample, which only its owner can read."""
        said, error = self.init(str(self.path))
        self.assertIsNone(error)
        self.assertIn(str(self.path), said)
        self.assertEqual(self.path.read_text(), SAMPLE)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_not_overwritten(self) -> None:
        """A file that is there stays, unless --force says so."""
        self.path.write_text("mine")
        _, error = self.init(str(self.path))
        self.assertIsInstance(error, click.ClickException)
        self.assertEqual(self.path.read_text(), "mine")
        _, error = self.init(str(self.path), "--force")
        self.assertIsNone(error)
        self.assertEqual(self.path.read_text(), SAMPLE)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["x.yaml"])

    def test_stdout(self) -> None:
        """- is stdout."""
        self.assertEqual(self.init("-"), (SAMPLE, None))

    def test_refused(self) -> None:
        """A TOML name is wrong usage, a folder can't be written, and nothing is left behind."""
        _, error = self.init(str(self.folder / "x.toml"))
        self.assertIsInstance(error, click.UsageError)
        _, error = self.init(str(self.folder), "--force")
        self.assertIsInstance(error, click.ClickException)
        _, error = self.init(str(self.folder / "no" / "x.yaml"), "--force")
        self.assertIsInstance(error, FileNotFoundError)
        self.assertEqual(list(self.folder.iterdir()), [])
