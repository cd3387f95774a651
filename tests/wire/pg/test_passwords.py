"""MD5 answers."""

from __future__ import annotations

from hashlib import md5

from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.pg.passwords import md5_password


class Md5Tests(SynchronousTestCase):
    """The answer is the one that PostgreSQL's chapter "Message Flow" gives the recipe of."""

    def test_recipe(self) -> None:
        """concat('md5', md5(concat(md5(concat(password, username)), random-salt)))."""
        stored = md5(b"s\xc3\xa9cretann").hexdigest().encode()
        self.assertEqual(
            md5_password("ann", "sécret".encode(), b"\x01\x02\xff\0"),
            b"md5" + md5(stored + b"\x01\x02\xff\0").hexdigest().encode(),
        )

    def test_known(self) -> None:
        """A stored password as PostgreSQL keeps it (md5 of C{postgrespostgres}), salted."""
        stored = b"3175bce1d3201d16594cebf9d7eb3f9d"
        expected = b"md5" + md5(stored + b"salt").hexdigest().encode()
        self.assertEqual(md5_password("postgres", b"postgres", b"salt"), expected)

    def test_length(self) -> None:
        """The answer is always 35 bytes, whatever the password."""
        self.assertEqual(len(md5_password("", b"", bytes(4))), 35)
        self.assertEqual(len(md5_password("\N{SNOWMAN}", bytes(5000), bytes(4))), 35)
