"""Tests for L{proxyd.config.dsn_words}."""

from __future__ import annotations

from psycopg import pq
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.dsn_words import (
    ALL_WORDS,
    NOT_READ,
    NOT_YET,
    PLACE_WORDS,
    READ,
    WITHOUT_EFFECT,
    waits,
)


class WordTests(SynchronousTestCase):
    """Every word of libpq has its one place."""

    def test_libpq(self) -> None:
        """Each word that the installed libpq knows is read, has no effect or is refused."""
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        # authtype and tty have done nothing since PostgreSQL 14, and are hidden.
        self.assertEqual(known - set(ALL_WORDS) - {"authtype", "tty"}, set())

    def test_one_place(self) -> None:
        """No word stands in two tables."""
        tables = [PLACE_WORDS, READ.keys(), WITHOUT_EFFECT.keys(), NOT_READ.keys()]
        self.assertEqual(sum(len(table) for table in tables), len(ALL_WORDS))

    def test_checks(self) -> None:
        """A check gives back what it lets pass."""
        for word, value in (("require_auth", "scram-sha-256,none"), ("keepalives_idle", "30")):
            self.assertEqual(READ[word](value), value)

    def test_later(self) -> None:
        """What waits for a later version is checked already, and so are the values that don't."""
        self.assertEqual(NOT_YET.keys() - READ.keys(), set())
        for word, values in NOT_YET.items():
            for value in values:
                self.assertEqual(READ[word](value), value)
                self.assertFalse(waits(word, value))
            self.assertTrue(waits(word, "0"))
        self.assertFalse(waits("sslcert", "x"))
