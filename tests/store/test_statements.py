"""
Tests of L{proxyd.store.statements}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.store.statements import NOW, TOKEN, for_psycopg


class StatementTests(SynchronousTestCase):
    """How values are written."""

    def test_for_psycopg(self) -> None:
        """Each :name becomes psycopg's, and a cast stays a cast."""
        self.assertTrue(
            for_psycopg(TOKEN).endswith("issuer = %(issuer)s AND token_id = %(token_id)s")
        )
        self.assertEqual(for_psycopg(NOW), NOW)
