"""
How the tests of the loader read a text: as a file in a folder of the test's own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.load import NO_FLAGS, Flags, load
from proxyd.config.model import Config, Connection
from proxyd.errors import ConfigError

MINIMAL = "connections:\n  default:\n    dsn: postgresql://svc@db.internal/\n"
"""The least that opens PostgreSQL with a database behind it."""


class ReadingCase(SynchronousTestCase):
    """Loads texts, and compares what is said of them."""

    maxDiff = None

    def folder(self) -> Path:
        """A folder of this test's own."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        return folder

    def load(
        self,
        text: str,
        environment: Mapping[str, str] | None = None,
        *,
        name: str = "proxyd.yaml",
        dotenv: str | None = None,
        flags: Flags = NO_FLAGS,
    ) -> Config:
        """Load a text as a file of this name, with a C{.env} beside it if one is given."""
        self.place = self.folder()
        path = self.place / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        if dotenv is not None:
            (self.place / ".env").write_text(dotenv, encoding="utf-8")
        return load(str(path), environment=environment or {}, flags=flags)

    def wrong(
        self,
        text: str,
        environment: Mapping[str, str] | None = None,
        *,
        name: str = "proxyd.yaml",
        dotenv: str | None = None,
        flags: Flags = NO_FLAGS,
    ) -> list[str]:
        """What is wrong with a text, each problem in a line, without the folder's name."""
        error = self.assertRaises(
            ConfigError, self.load, text, environment, name=name, dotenv=dotenv, flags=flags
        )
        return [str(problem).replace(f"{self.place}/", "") for problem in error.problems]

    def connection(self, keys: str, environment: Mapping[str, str] | None = None) -> Connection:
        """The connection C{default} with these keys, beside a DSN that is good."""
        return self.load(_connection_text(keys), environment).connections["default"]

    def connection_wrong(self, keys: str) -> list[str]:
        """What is wrong with these keys of a connection; the first of them stands in line 4."""
        return self.wrong(_connection_text(keys))


def _connection_text(keys: str) -> str:
    return MINIMAL + textwrap.indent(textwrap.dedent(keys), "    ")
