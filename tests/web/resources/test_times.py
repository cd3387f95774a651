"""Tests for L{proxyd.web.resources.times}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.web.resources.times import shown_time


class TimeTests(SynchronousTestCase):
    """RFC 3339."""

    def test_shown(self) -> None:
        """In UTC, to the second."""
        self.assertEqual(shown_time(0), "1970-01-01T00:00:00Z")
        self.assertEqual(shown_time(1_800_000_000.9), "2027-01-15T08:00:00Z")
        self.assertEqual(shown_time(253_402_300_799), "9999-12-31T23:59:59Z")
