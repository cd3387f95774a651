"""
Tests of L{proxyd.auth.issued}.
"""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.issued import (
    OwnSecret,
    database_of,
    digest_of,
    grant_of,
    new_token_id,
    time_of,
)
from proxyd.auth.jws import read_token
from proxyd.records import TokenRefused

GOOD = {"token_id": "t", "type": "database_access", "database_id": 5, "exp": 1000}


class ClaimsTests(SynchronousTestCase):
    """What claims allow."""

    def test_good(self) -> None:
        """All that is needed, and the names that may stand in the URL."""
        grant = grant_of({**GOOD, "roles": ["ann"]})
        self.assertEqual((grant.database_id, grant.expires_at, grant.roles), (5, 1000.0, ("ann",)))

    def test_bad(self) -> None:
        """What is missing or of another type is refused."""
        for wrong in (
            {"token_id": None},
            {"token_id": 5},
            {"token_id": ""},
            {"token_id": "x" * 201},
            {"type": "refresh"},
            {"nbf": "soon"},
            {"nbf": None},
            {"nbf": -1},
            {"type": None},
            {"database_id": None},
            {"exp": None},
            {"exp": "1000"},
            {"exp": True},
            {"exp": -1},
            {"exp": 1e300},
            {"exp": float("nan")},
            {"roles": "ann"},
            {"roles": [1]},
        ):
            with self.assertRaises(TokenRefused, msg=str(wrong)):
                grant_of({**GOOD, **wrong})

    def test_database(self) -> None:
        """A number is a registered database, and so is db_NUMBER; a text is a connection."""
        self.assertEqual(database_of(5), 5)
        self.assertEqual(database_of("db_5"), 5)
        self.assertEqual(database_of("5"), "5")
        self.assertEqual(database_of("orders"), "orders")
        for wrong in (
            None,
            0,
            "",
            True,
            5.0,
            [5],
            {"a": 1},
            "db_\N{ARABIC-INDIC DIGIT FIVE}",
            "db_" + "9" * 30,
        ):
            with self.assertRaises(TokenRefused, msg=str(wrong)):
                database_of(wrong)

    def test_time(self) -> None:
        """Seconds, whole or not."""
        self.assertEqual(time_of({"nbf": 5.5}, "nbf"), 5.5)


class SecretTests(SynchronousTestCase):
    """Signatures."""

    def test_sign_and_verify(self) -> None:
        """What a secret signed it verifies, also as a previous one; another does not."""
        token = read_token(OwnSecret(b"a" * 32).sign(GOOD).encode())
        OwnSecret(b"a" * 32).verify(token)
        OwnSecret(b"b" * 32, [b"c" * 32, b"a" * 32]).verify(token)
        with self.assertRaises(TokenRefused):
            OwnSecret(b"b" * 32).verify(token)

    def test_short_secret(self) -> None:
        """A short secret works, without a warning of a library's for each login."""
        secret = OwnSecret(b"short")
        secret.verify(read_token(secret.sign(GOOD).encode()))
        self.assertEqual(self.flushWarnings(), [])

    def test_digest_and_id(self) -> None:
        """SHA-256; ids don't repeat, and on a command line none is an option."""
        self.assertEqual(digest_of(b"x"), hashlib.sha256(b"x").digest())
        self.assertNotEqual(new_token_id(), new_token_id())
        # One in 64 would begin so by itself.
        self.assertFalse([one for one in (new_token_id() for _ in range(5000)) if one[0] == "-"])
