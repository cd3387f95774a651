"""
Tests of L{proxyd.store.keys}.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import StartError
from proxyd.store.keys import kept_secret


class KeyTests(SynchronousTestCase):
    """Secrets that proxyd makes itself."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "state"
        self.path = self.folder / "jwt.key"

    def secret(self) -> bytes:
        """The secret."""
        return kept_secret(str(self.folder), "jwt.key")

    def test_made_once(self) -> None:
        """It is made, for us alone, and stays the same; another one is another."""
        first = self.secret()
        self.assertGreaterEqual(len(first), 32)
        self.assertEqual(self.secret(), first)
        self.assertNotEqual(kept_secret(str(self.folder), "other.key"), first)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual(sorted(os.listdir(self.folder)), ["jwt.key", "other.key"])

    def refused(self) -> str:
        """Why it is not taken; the file must be left as it is."""
        before = self.path.read_bytes()
        error = self.assertRaises(StartError, self.secret)
        self.assertEqual(self.path.read_bytes(), before)
        self.assertIn(str(self.path), str(error))
        return str(error)

    def test_open_to_others(self) -> None:
        """A file that others may read is no secret."""
        self.secret()
        self.path.chmod(0o640)
        self.assertIn("others may read it", self.refused())

    def test_cut_short(self) -> None:
        """An empty file is not taken for a secret, and not overwritten."""
        self.secret()
        self.path.write_bytes(b"")
        self.assertIn("cut short", self.refused())

    def test_out_of_reach(self) -> None:
        """What can't be made is one line."""
        self.folder.parent.mkdir(parents=True)
        self.folder.write_text("a file")
        self.assertIn(str(self.path), str(self.assertRaises(StartError, self.secret)))
