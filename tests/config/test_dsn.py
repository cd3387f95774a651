"""Tests for L{proxyd.config.dsn}."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.dsn import ParsedDsn, parse_dsn
from proxyd.config.model import Dsn
from proxyd.config.values import BadValue
from proxyd.target import Target


def parse(text: str, environment: Mapping[str, str] | None = None) -> ParsedDsn:
    """A connection string, in a home that the test knows."""
    return parse_dsn(text, environment or {"HOME": "/home/ann"})


class DsnCase(SynchronousTestCase):
    """Compares what connection strings say."""

    def refused(self, text: str) -> str:
        """Why a string is refused."""
        return str(self.assertRaises(BadValue, parse, text))

    def hosts(self, text: str) -> list[str]:
        """Its places, in the order they are tried."""
        return [str(host) for host in parse(text).dsn.hosts]


class UriTests(DsnCase):
    """postgresql:// URIs, by the examples of libpq's documentation and beyond."""

    def test_whole(self) -> None:
        """Every part of a URI stands in its own field."""
        self.assertEqual(
            parse("postgresql://svc:pw@db.internal:5433/shop?sslmode=require&application_name=x"),
            ParsedDsn(
                Dsn(
                    (Target("db.internal", 5433),),
                    "svc",
                    "shop",
                    "require",
                    {"application_name": "x"},
                ),
                "pw",
            ),
        )

    def test_nearly_nothing(self) -> None:
        """What is left out has its default."""
        for text in ("postgresql://", "postgres://", "postgresql:///", "postgresql://?sslmode="):
            self.assertEqual(parse(text).dsn, Dsn((Target("localhost", 5432),)), text)
        self.assertEqual(parse("postgresql://svc@").dsn.user, "svc")
        self.assertEqual(parse("postgresql:///shop").dsn.database, "shop")

    def test_hosts(self) -> None:
        """Several hosts, each with its own port; IPv6 in brackets."""
        for text, hosts in (
            ("postgresql://a:1,b,c:3/x", ["a:1", "b:5432", "c:3"]),
            ("postgresql://[::1]:5433,[2001:db8::1]/", ["[::1]:5433", "[2001:db8::1]:5432"]),
            ("postgresql://10.0.0.1/", ["10.0.0.1:5432"]),
            ("postgresql://:5433/", ["localhost:5433"]),
            ("postgresql:///x?host=a,b&port=1,2", ["a:1", "b:2"]),
            ("postgresql:///x?host=a,b&port=7", ["a:7", "b:7"]),
        ):
            self.assertEqual(self.hosts(text), hosts, text)

    def test_addresses(self) -> None:
        """hostaddr says where a host is; its name is still the one that counts."""
        for text, hosts in (
            ("host=a,b hostaddr=10.0.0.1,::1 port=1,2",
             [Target("a", 1, "10.0.0.1"), Target("b", 2, "::1")]),
            ("host=a,b hostaddr=10.0.0.1,", [Target("a", 5432, "10.0.0.1"), Target("b", 5432)]),
            ("hostaddr=10.0.0.1", [Target("10.0.0.1", 5432, "10.0.0.1")]),
        ):  # fmt: skip
            self.assertEqual(list(parse(text).dsn.hosts), hosts, text)
        for text, what in (
            ("host=a,b hostaddr=10.0.0.1", "2 hosts but 1 addresses"),
            ("host=a hostaddr=b", "IP addresses"),
            ("host=/run/pg hostaddr=10.0.0.1", "UNIX socket"),
        ):
            self.assertIn(what, self.refused(text), text)

    def test_unix(self) -> None:
        """A host that starts with / is the folder of a UNIX socket."""
        for text in (
            "postgresql://%2Fvar%2Frun%2Fpostgresql:5433/x",
            "postgresql:///x?host=/var/run/postgresql&port=5433",
            "host=/var/run/postgresql/ port=5433",
        ):
            self.assertEqual(self.hosts(text), ["/var/run/postgresql/.s.PGSQL.5433"])
            self.assertTrue(parse(text).dsn.hosts[0].is_unix)

    def test_decoding(self) -> None:
        """Percent escapes are decoded in every part."""
        parsed = parse("postgresql://a%40b:p%2Fw%3a%25%C3%A9@h/my%20db?application%5Fname=a%26b")
        self.assertEqual(parsed.dsn.user, "a@b")
        self.assertEqual(parsed.password, "p/w:%é")
        self.assertEqual(parsed.dsn.database, "my db")
        self.assertEqual(parsed.dsn.parameters, {"application_name": "a&b"})

    def test_broken_escapes(self) -> None:
        """Escapes that are cut off, stand for a NUL or are no UTF-8 are refused."""
        for text in ("postgresql://%zz@h/", "postgresql://h/%4", "postgresql://h/%00",
                     "postgresql://h/%ff"):  # fmt: skip
            self.refused(text)

    def test_jdbc_word(self) -> None:
        """ssl=true means sslmode=require, as libpq has it."""
        self.assertEqual(parse("postgresql://h/?ssl=true").dsn.sslmode, "require")

    def test_malformed(self) -> None:
        """Each broken part is told in its own words."""
        for text, what in (
            ("postgresql://[::1/x", "has no ]"),
            ("postgresql://[::1]x/", "is not HOST:PORT"),
            ("postgresql://[localhost]/", "only an IPv6 address"),
            ("postgresql://::1/", "its port"),
            ("postgresql://h:0/", "its port"),
            ("postgresql://h:65536/", "its port"),
            ("postgresql://h h/", "its host"),
            ("postgresql://300.0.0.1/", "its host"),
            ("postgresql://h?sslmode", "not NAME=VALUE"),
            ("postgresql://h?options=a=b", "not NAME=VALUE"),
            ("postgresql:///?host=a,b&port=1,2,3", "2 hosts but 3 ports"),
            ("mysql://h/", "must be a postgresql:// URI"),
            ("jdbc:postgresql://h/?user=u", "must be a postgresql:// URI"),
            ("db.internal", "must be a postgresql:// URI"),
        ):
            self.assertIn(what, self.refused(text), text)


class WordTests(DsnCase):
    """key=value lists."""

    def test_quoting(self) -> None:
        """Spaces around =, quotes, escapes, and lines."""
        parsed = parse("host = db port=5433\n user=svc password='it\\'s \\\\ here' dbname = a\\ b")
        self.assertEqual(parsed.dsn, Dsn((Target("db", 5433),), "svc", "a b"))
        self.assertEqual(parsed.password, "it's \\ here")

    def test_empty_values(self) -> None:
        """An empty value is as if it were not said."""
        parsed = parse("host=db password='' dbname=''  ")
        self.assertEqual((parsed.password, parsed.dsn.database), (None, None))
        self.assertIsNone(parse("host=db password=").password)

    def test_malformed(self) -> None:
        """Missing = and unclosed quotes are refused."""
        for text, what in (
            ("host=a port", "a = is missing"),
            ("host=a dbname='x", "a quote or backslash too many"),
            ("dbname='x'y host=a", "a quote or backslash too many"),
            ("host=@a", "abstract"),
            ("host=/" + "x" * 200, "at most 107 bytes"),
        ):
            self.assertIn(what, self.refused(text), text)


class ParameterTests(DsnCase):
    """Which parameters are read, and which are refused and why."""

    def test_unknown(self) -> None:
        """What libpq does not know is refused by name, with what may have been meant."""
        self.assertIn("sslmod is not a parameter of libpq; did you mean sslmode?",
                      self.refused("postgresql://h/?sslmod=require"))  # fmt: skip
        self.assertIn("fruit is not", self.refused("host=h fruit=apple"))

    def test_not_read(self) -> None:
        """What libpq knows and proxyd does not is refused, with what to do instead."""
        for word, hint in (
            ("service", "write out"),
            ("passfile", "file:PATH"),
            ("requiressl", "sslmode=require"),
            ("sslpassword", "without a password"),
            ("sslkeylogfile", "give the keys"),
        ):
            self.assertIn(hint, self.refused(f"host=h {word}=1"))

    def test_without_effect(self) -> None:
        """What proxyd does anyway may be said; what it can't do is refused."""
        self.assertEqual(parse("host=h gssencmode=disable sslcompression=0").dsn.parameters, {})
        self.assertIn(
            "gssencmode=require is refused: Kerberos", self.refused("host=h gssencmode=require")
        )
        self.assertIn("can't be pooled", self.refused("host=h replication=database"))

    def test_words_checked(self) -> None:
        """The values of parameters are checked, and the parameter named."""
        for text, what in (
            ("sslmode=verify-ful", "sslmode: verify-ful is not one of"),
            ("channel_binding=on", "channel_binding: "),
            ("target_session_attrs=master", "target_session_attrs: "),
            ("keepalives=yes", "keepalives: "),
            ("connect_timeout=10s", "connect_timeout: must be a whole number"),
            ("connect_timeout=0", "wait without end"),
            ("require_auth=scram", "require_auth: "),
            ("require_auth=!md5,password", "can't be mixed"),
            ("require_auth=md5,md5", "twice"),
        ):
            self.assertIn(what, self.refused(f"host=h {text}"))
        parsed = parse("host=h connect_timeout=7 require_auth=!password,!md5")
        self.assertEqual(parsed.connect_timeout, 7.0)
        self.assertEqual(parsed.dsn.parameters, {"require_auth": "!password,!md5"})

    def test_kept(self) -> None:
        """Every word with an effect reaches whoever logs in; an empty one is none."""
        words = {
            "application_name": "x",
            "channel_binding": "disable",
            "client_encoding": "UTF8",
            "fallback_application_name": "y",
            "keepalives": "0",
            "keepalives_idle": "30",
            "load_balance_hosts": "random",
            "max_protocol_version": "latest",
            "options": "-cwork_mem=1",
            "require_auth": "!md5",
            "requirepeer": "postgres",
            "ssl_min_protocol_version": "TLSv1.3",
            "sslnegotiation": "direct",
            "sslsni": "0",
            "target_session_attrs": "prefer-standby",
        }
        text = "host=h sslmode=require " + " ".join(f"{name}={it}" for name, it in words.items())
        self.assertEqual(parse(text).dsn.parameters, words)
        self.assertEqual(parse("postgresql://h/?options=&keepalives=").dsn.parameters, {})

    def test_contradictions(self) -> None:
        """What does not go together is refused here, too."""
        self.assertIn("needs sslmode", self.refused("host=h sslnegotiation=direct"))
        self.assertIn("needs TLS", self.refused("host=/run/pg channel_binding=require"))
        text = "host=h sslnegotiation=direct sslrootcert=system"
        self.assertEqual(parse(text).dsn.sslmode, "verify-full")
        self.assertEqual(parse("host=h sslrootcert=/ca sslcrl=~/crl sslmode=require",
                               ).dsn.parameters["sslcrl"], "/home/ann/crl")  # fmt: skip

    def test_given_twice(self) -> None:
        """What is said twice may be said differently, so it is refused."""
        self.assertIn("user is given twice", self.refused("postgresql://a@h/?user=b"))
        self.assertIn("host is given twice", self.refused("host=a host=b"))

    def test_certificates(self) -> None:
        """Paths get their home; a certificate needs its key; system needs full proof."""
        parsed = parse("host=h sslcert=~/c sslkey=/k sslrootcert=~/ca sslmode=verify-full")
        self.assertEqual(
            parsed.dsn.parameters,
            {"sslcert": "/home/ann/c", "sslkey": "/k", "sslrootcert": "/home/ann/ca"},
        )
        self.assertIn("go together", self.refused("host=h sslcert=/c"))
        self.assertEqual(parse("host=h sslrootcert=system").dsn.sslmode, "verify-full")
        self.assertIn("needs", self.refused("host=h sslrootcert=system sslmode=require"))


class DefaultTests(DsnCase):
    """What the variables say where the string is silent."""

    def test_host(self) -> None:
        """The default host fills in for none, and gets the string's port."""
        default = Target("db.internal", 5433)
        for text, host in (
            ("postgresql://u@/x", "db.internal:5433"),
            ("postgresql://u@:7/x", "db.internal:7"),
            ("postgresql://u@other/x", "other:5432"),
        ):
            dsn = parse_dsn(text, {}, default_host=default).dsn
            self.assertEqual([str(one) for one in dsn.hosts], [host])
        socket = Target("/run/pg/.s.PGSQL.5432", 5432)
        dsn = parse_dsn("postgresql://u@:7/x", {}, default_host=socket).dsn
        self.assertEqual(str(dsn.hosts[0]), "/run/pg/.s.PGSQL.7")

    def test_user(self) -> None:
        """The default user fills in for none."""
        self.assertEqual(parse_dsn("postgresql://h/", {}, default_user="d").dsn.user, "d")
        self.assertEqual(parse_dsn("postgresql://u@h/", {}, default_user="d").dsn.user, "u")


class SecrecyTests(DsnCase):
    """No error and no repr tells a password, nor a piece of one."""

    def test_repr(self) -> None:
        """The password is not in the value's repr."""
        self.assertNotIn("hunter2", repr(parse("postgresql://u:hunter2@h/")))

    def test_unescaped_passwords(self) -> None:
        """A password whose special characters break the string is not quoted."""
        for text in (
            "postgresql://u:hunter2/x@h/db",
            "postgresql://u:x/hunter2@h/db",
            "postgresql://u:1/hunter2?hunter2=hunter2@h/db",
            "postgresql://u:x@hunter2 y@h/db",
            "postgresql://u:x@hunter2@h:5432/db",
            "postgresql://u:x%hunter2@h/db",
            "host=h password=x hunter2",
            "host=h password=x hunter2=y",
            "host=h password='x'hunter2",
            "mysql://u:hunter2@h/",
            "u:hunter2@h",
        ):
            self.assertNotIn("hunter2", self.refused(text), text)

    @given(st.text(alphabet="ab:/@?=&%2,[]' \\\n.host1", max_size=50))
    def test_noise(self, text: str) -> None:
        """Whatever the text, it is a connection string or a BadValue."""
        for whole in (text, f"postgresql://{text}"):
            try:
                self.assertIsInstance(parse(whole), ParsedDsn)
            except BadValue:
                pass
