"""Tests for L{proxyd.web.admin_token}: made once, kept, and closed to others."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.secrets import Secret
from proxyd.errors import StartError
from proxyd.web.admin_token import admin_token, metrics_token


class AdminTokenTests(SynchronousTestCase):
    """The token that opens everything."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "state"
        self.file = self.folder / "admin.token"

    def token(self) -> str:
        """The token that is made, or kept."""
        return admin_token(None, str(self.folder))

    def refused(self, given: Secret | None = None) -> str:
        """Why there is none."""
        return str(self.assertRaises(StartError, admin_token, given, str(self.folder)))

    def test_made_and_kept(self) -> None:
        """It is made at the first start, and the same at the next."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        made = self.token()
        self.assertGreaterEqual(len(made), 43, "256 bits")
        self.assertEqual(self.token(), made)
        self.assertEqual(self.file.read_text(), made + "\n")
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual([file.name for file in self.folder.iterdir()], ["admin.token"])

    def test_each_its_own(self) -> None:
        """Two state directories have two tokens."""
        self.assertNotEqual(self.token(), admin_token(None, self.mktemp()))

    def test_given(self) -> None:
        """The configuration's wins, and nothing is made."""
        given = Secret("env:T", {"T": "given-by-the-operator"})
        self.assertEqual(admin_token(given, str(self.folder)), "given-by-the-operator")
        self.assertFalse(self.folder.exists())

    def test_open_to_others(self) -> None:
        """A file that others can read is no secret: it is refused, with what to do."""
        self.token()
        self.file.chmod(0o640)
        self.assertIn("chmod 600", self.refused())

    def test_guessable(self) -> None:
        """An empty or short one is refused, and not quoted."""
        self.assertIn("at least 16", self.refused(Secret("hunter2")))
        self.assertNotIn("hunter2", self.refused(Secret("hunter2")))
        self.folder.mkdir(parents=True)
        self.file.touch(0o600)
        self.assertIn("at least 16", self.refused())

    def test_not_to_be_sent(self) -> None:
        """One that no header can carry would let nobody in: it is refused."""
        for text in ("twenty characters ok", "0123456789abcdef\n", "0123456789abcd\u00e9f"):
            for token in (admin_token, metrics_token):
                error = self.assertRaises(StartError, token, Secret("env:T", {"T": text}))
                self.assertIn("ASCII", str(error))
                self.assertNotIn(text.strip(), str(error))

    def test_not_readable(self) -> None:
        """What can't be read or made is told in a line that names it."""
        self.file.mkdir(parents=True)
        self.assertIn("admin.token", self.refused())
        self.assertIn("variable T is not set", self.refused(Secret("env:T", {})))

    def test_metrics(self) -> None:
        """There is none unless one is given."""
        self.assertIsNone(metrics_token(None))
        self.assertEqual(metrics_token(Secret("0123456789abcdef")), "0123456789abcdef")
        self.assertRaises(StartError, metrics_token, Secret("short"))
