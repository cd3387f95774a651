"""
Tests of L{proxyd.records}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.records import (
    DatabaseRecord,
    Grant,
    IssuedToken,
    Refusal,
    TokenRecord,
    TokenRefused,
)


class RecordTests(SynchronousTestCase):
    """Values of the store."""

    def test_keys(self) -> None:
        """A token is known by its issuer and its id, as a record and as a grant."""
        record = TokenRecord("t", "i", b"d", 5, "", 0, 1)
        self.assertEqual(record.key, ("i", "t"))
        self.assertEqual(Grant("t", "i", 5, 1.0).key, record.key)

    def test_nothing_secret_shows(self) -> None:
        """No repr has a token, its digest or a sealed password."""
        shown = [
            TokenRecord("t", "i", b"hidden", 5, "", 0, 1),
            DatabaseRecord(5, "n", "d", b"hidden", 0),
            IssuedToken("hidden", "t", 5, 0, 1, "postgresql://token:hidden@h/db_5"),
        ]
        for value in shown:
            self.assertNotIn("hidden", repr(value))

    def test_refusal(self) -> None:
        """A refusal says which, and more where there is more."""
        self.assertEqual(str(TokenRefused(Refusal.EXPIRED)), "expired")
        self.assertEqual(str(TokenRefused(Refusal.EXPIRED, "since May")), "expired: since May")
