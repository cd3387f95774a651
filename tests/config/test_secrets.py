"""Tests for L{proxyd.config.secrets}."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.secrets import Secret
from proxyd.errors import StartError


class SecretTests(SynchronousTestCase):
    """A secret is read when needed, and shown never."""

    def test_text(self) -> None:
        """A plain text is itself."""
        secret = Secret("s3cret")
        self.assertEqual((secret.read(), secret.place), ("s3cret", "the configuration"))
        self.assertIsNone(secret.file)

    def test_variable(self) -> None:
        """A variable of the environment given."""
        secret = Secret("env:PW", {"PW": "s3cret"})
        self.assertEqual((secret.read(), secret.place, secret.file), ("s3cret", "env:PW", None))

    def test_no_variable(self) -> None:
        """One that is not set is named."""
        error = self.assertRaises(StartError, Secret("env:PW", {}).read)
        self.assertIn("variable PW is not set", str(error))

    def test_file(self) -> None:
        """A file's text, without one newline at its end."""
        path = Path(self.mktemp())
        for written, read in (("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a")):
            path.write_bytes(written.encode())
            secret = Secret(f"file:{path}")
            self.assertEqual((secret.read(), secret.file), (read, str(path)))

    def test_no_file(self) -> None:
        """A file that is missing or no text is named."""
        path = Path(self.mktemp())
        self.assertIn(str(path), str(self.assertRaises(StartError, Secret(f"file:{path}").read)))
        path.write_bytes(b"\xff\xfe\xff")
        self.assertIn("UTF-8", str(self.assertRaises(StartError, Secret(f"file:{path}").read)))

    def test_literal(self) -> None:
        """A password of a connection string is itself, even if it looks like a place."""
        secret = Secret("env:PW", {"PW": "other"}, literal=True)
        self.assertEqual((secret.read(), secret.place), ("env:PW", "the configuration"))
        self.assertNotEqual(secret, Secret("env:PW", {"PW": "other"}))

    def test_never_shown(self) -> None:
        """Neither repr nor str tell it, nor does a place in a value."""
        secret = Secret("s3cret", os.environ)
        for text in (repr(secret), str(secret), f"{secret}", repr([secret])):
            self.assertNotIn("s3cret", text)

    def test_equal(self) -> None:
        """Two of the same source are equal, so that a reload sees what has changed."""
        self.assertEqual(Secret("a"), Secret("a"))
        self.assertEqual(hash(Secret("a")), hash(Secret("a")))
        self.assertNotEqual(Secret("a"), Secret("b"))
