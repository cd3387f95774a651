"""Tests for L{proxyd.config.dsn_words}."""

from __future__ import annotations

from psycopg import pq
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.dsn_words import (
    ALL_WORDS,
    NOT_READ,
    PLACE_WORDS,
    READ,
    WITHOUT_EFFECT,
    check_together,
)
from proxyd.config.values import BadValue


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

    def test_defaults(self) -> None:
        """
        Whoever writes out libpq's own defaults is not refused.

        But where libpq looks for files of its user's, and what only a program has.
        """
        own = {"client_encoding", "sslcert", "sslkey", "sslrootcert"}
        for option in pq.Conninfo.get_defaults():
            name, value = option.keyword.decode(), (option.compiled or b"").decode()
            if not value or name in own or name in PLACE_WORDS or name in NOT_READ:
                continue
            if name in WITHOUT_EFFECT:
                self.assertIn(value, WITHOUT_EFFECT[name][0], name)
            elif name in READ:
                self.assertEqual(READ[name](value), value)

    def test_reasons(self) -> None:
        """Whatever is refused is refused with a reason."""
        for name, reason in NOT_READ.items():
            self.assertTrue(reason, name)
        for name, (values, reason) in WITHOUT_EFFECT.items():
            self.assertTrue(values, name)
            self.assertTrue(reason or name == "sslcompression", name)

    def test_auth_methods(self) -> None:
        """A list of what is never offered could never log in."""
        for text in ("gss", "sspi,oauth"):
            self.assertIn("only", str(self.assertRaises(BadValue, READ["require_auth"], text)))
        for text in ("gss,md5", "!gss", "none", "!none"):
            self.assertEqual(READ["require_auth"](text), text)
        self.assertRaises(BadValue, READ["require_auth"], "creds")

    def test_tls_versions(self) -> None:
        """As libpq, whatever the case; what is too old for us is said to be."""
        self.assertEqual(READ["ssl_min_protocol_version"]("tlsv1.3"), "TLSv1.3")
        for text, what in (("TLSv1.1", "not spoken"), ("SSLv3", "is not one of")):
            error = self.assertRaises(BadValue, READ["ssl_max_protocol_version"], text)
            self.assertIn(what, str(error))


class TogetherTests(SynchronousTestCase):
    """Words that contradict each other."""

    def refused(self, sslmode: str = "prefer", *, unix: bool = False, **said: str) -> str:
        """Why."""
        return str(self.assertRaises(BadValue, check_together, said, sslmode, unix))

    def test_tls(self) -> None:
        """What would have no effect, or less than it seems to, is refused."""
        for mode in ("disable", "allow", "prefer"):
            self.assertIn("sslmode=require", self.refused(mode, sslnegotiation="direct"))
        self.assertIn("sslrootcert", self.refused("verify-ca"))
        self.assertIn("sslcrl", self.refused("require", sslcrl="/crl"))
        self.assertIn("go together", self.refused(sslkey="/k"))
        check_together({"sslnegotiation": "direct"}, "require", False)
        check_together({"sslcrl": "/crl", "sslrootcert": "/ca"}, "require", False)

    def test_channel_binding(self) -> None:
        """There is none without TLS, and none without SCRAM."""
        self.assertIn("needs TLS", self.refused("disable", channel_binding="require"))
        self.assertIn("needs TLS", self.refused(unix=True, channel_binding="require"))
        for ways in ("md5", "!scram-sha-256", "!md5,!scram-sha-256"):
            self.assertIn("needs scram", self.refused(channel_binding="require", require_auth=ways))
        for ways in ("scram-sha-256,md5", "!md5"):
            check_together({"channel_binding": "require", "require_auth": ways}, "prefer", False)

    def test_versions(self) -> None:
        """The least is not above the most."""
        said = {"min_protocol_version": "3.2", "max_protocol_version": "3.0"}
        self.assertIn("is above", self.refused(**said))
        said = {"ssl_min_protocol_version": "TLSv1.3", "ssl_max_protocol_version": "TLSv1.2"}
        self.assertIn("is above", self.refused(**said))
        for most in ("3.2", "latest"):
            said = {"min_protocol_version": "latest", "max_protocol_version": most}
            check_together(said, "prefer", False)
