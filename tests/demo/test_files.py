"""The files a server is given."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import TestCase

from demo.files import configuration_lines, write_secret


class SecretTests(TestCase):
    """Files that are their owner's only."""

    def test_mode(self) -> None:
        """Nobody else can read it, whatever was there before, and a link is not followed."""
        folder = Path(self.mktemp())
        folder.mkdir()
        target = folder / "target"
        target.write_text("untouched")
        secret = folder / "secret"
        secret.symlink_to(target.absolute())
        previous = os.umask(0)
        try:
            write_secret(secret, b"hush")
        finally:
            os.umask(previous)
        self.assertEqual((secret.read_bytes(), secret.stat().st_mode & 0o777), (b"hush", 0o600))
        self.assertEqual(target.read_text(), "untouched")


class ConfigurationTests(TestCase):
    """postgresql.conf as we write it."""

    def test_values_are_quoted(self) -> None:
        """Quotes and backslashes in a value stay in it."""
        lines = configuration_lines(Path("/a/data"), {"x": "it's", "y": "a\\b"})
        self.assertEqual(lines, ["include '/a/data/postgresql.conf'", "x = 'it''s'", r"y = 'a\\b'"])
