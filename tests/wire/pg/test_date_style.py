"""Tests for L{proxyd.wire.pg.date_style}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.pg.date_style import merge_date_styles


class MergeTests(SynchronousTestCase):
    """Two values that were set one after the other."""

    def test_halves(self) -> None:
        """What the later one does not name is the earlier one's."""
        cases = {
            ("SQL", "DMY"): "SQL, DMY",
            ("DMY", "SQL"): "SQL, DMY",
            ("ISO, MDY", "YMD"): "ISO, YMD",
            ("ISO, MDY", "Postgres"): "Postgres, MDY",
            ("ISO", "SQL"): "SQL",
            ("YMD", "European"): "European",
            ("dmy", "us"): "us",
        }
        for (earlier, later), merged in cases.items():
            self.assertEqual(merge_date_styles(earlier, later), merged)

    def test_german(self) -> None:
        """German has its own order, unless one is named with it."""
        self.assertEqual(merge_date_styles("ISO, YMD", "German"), "German")
        self.assertEqual(merge_date_styles("ISO, YMD", "German, MDY"), "German, MDY")
        self.assertEqual(merge_date_styles("German", "MDY"), "German, MDY")

    def test_strange(self) -> None:
        """What can't be read stays there, for the server to refuse."""
        for earlier, later in (("odd", "ISO"), ("ISO", "odd"), ("ISO, SQL", "DMY"), ("", "DMY")):
            merged = merge_date_styles(earlier, later)
            for word in ("odd", "ISO, SQL"):
                self.assertEqual(word in merged, word in (earlier, later), merged)
        self.assertEqual(merge_date_styles("ISO", "DEFAULT"), "DEFAULT")

    @given(st.text(), st.text())
    def test_noise(self, earlier: str, later: str) -> None:
        """Nothing breaks it."""
        merge_date_styles(earlier, later)
