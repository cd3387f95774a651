"""Tests for L{proxyd.postgres.settings}."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.postgres.answers import Fatal
from proxyd.postgres.settings import (
    Settings,
    clean_name,
    greet,
    greeting_of,
    learn,
    read_settings,
    retold,
    told,
    wanted,
)
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import PgProtocolError

WHO = {"user": "ann", "database": "shop"}
REPORTED = {"client_encoding": "UTF8", "DateStyle": "ISO, MDY", "application_name": ""}


class PoolStub:
    """Of a pool only what it learnt."""

    def __init__(self, **parameters: str) -> None:
        self.parameters = parameters
        self.learnt: dict[tuple[str, str], str] = {}
        self.greetings: dict[object, bytes] = {}


def stub(**parameters: str) -> Any:
    """A pool that has learnt these."""
    return PoolStub(**parameters)


class ReadTests(SynchronousTestCase):
    """What a start-up packet may ask for."""

    def state(self, **parameters: str) -> str:
        """The SQLSTATE with which these are refused."""
        return self.assertRaises(Fatal, read_settings, WHO | parameters).sqlstate

    def pairs(self, **parameters: str) -> dict[str, str]:
        """The settings of these."""
        return dict(read_settings(WHO | parameters).pairs)

    def test_usual_ones(self) -> None:
        """What drivers send is taken, by its lower-case name; who and where are no settings."""
        self.assertEqual(
            self.pairs(DateStyle="ISO", client_encoding="utf8", extra_float_digits="2"),
            {"datestyle": "ISO", "client_encoding": "utf8", "extra_float_digits": "2"},
        )
        self.assertEqual(self.pairs(), {})

    def test_extensions(self) -> None:
        """Settings with a dot belong to extensions: the server judges them."""
        self.assertEqual(self.pairs(**{"MyApp.Tenant": "7"}), {"myapp.tenant": "7"})

    def test_identity_is_never_set(self) -> None:
        """role and session_authorization are refused in every spelling, and in options too."""
        for name in ("role", "ROLE", "session_authorization", "Session_Authorization"):
            self.assertEqual(self.state(**{name: "postgres"}), "42501")
            for options in (f"-c {name}=x", f"-c{name}=x", f"--{name.replace('_', '-')}=x"):
                self.assertEqual(self.state(options=options), "42501", options)

    def test_unknown(self) -> None:
        """What is not on the list is refused with PostgreSQL's own SQLSTATE, not ignored."""
        for name in ("shared_preload_libraries", "log_statement", "is_superuser", "nonsense"):
            self.assertEqual(self.state(**{name: "x"}), "42704")

    def test_options(self) -> None:
        """Options are split as PostgreSQL splits them."""
        self.assertEqual(
            self.pairs(options=r"-c search_path=a\ b,c --work-mem=4MB -cstatement_timeout=5s"),
            {"search_path": "a b,c", "work_mem": "4MB", "statement_timeout": "5s"},
        )

    def test_options_come_first(self) -> None:
        """The packet's own setting wins over the one in options, as in PostgreSQL."""
        self.assertEqual(
            self.pairs(options="-c datestyle=German", DateStyle="ISO"), {"datestyle": "ISO"}
        )

    def test_bad_options(self) -> None:
        """Other switches, and settings without a value, are refused."""
        for options in ("-d 5", "word", "-c", "-c work_mem", "--", "-c =x"):
            self.assertRaises(PgProtocolError, read_settings, WHO | {"options": options})

    def test_replication(self) -> None:
        """Replication is refused by name; a value that means nothing is an error of its own."""
        for value in ("true", "on", "YES", "1", "t", "database"):
            self.assertEqual(self.state(replication=value), "0A000", value)
        for value in ("off", "FALSE", "no", "0", "f"):
            self.assertEqual(self.pairs(replication=value), {})
        for value in ("perhaps", "", "Database"):
            self.assertEqual(self.state(replication=value), "22023", value)

    @given(st.dictionaries(st.text(max_size=12), st.text(max_size=30), max_size=4))
    def test_noise(self, parameters: dict[str, str]) -> None:
        """Whatever is asked for, identity is never set, and only the two refusals are raised."""
        try:
            settings = read_settings(WHO | parameters)
        except (Fatal, PgProtocolError):
            return
        self.assertFalse({"role", "session_authorization"} & dict(settings.pairs).keys())


class StampTests(SynchronousTestCase):
    """The hint to whom a session belongs."""

    def test_stamp(self) -> None:
        """application_name carries the user and the client's own name."""
        settings = Settings((("application_name", "psql"), ("work_mem", "4MB"))).stamped("ann")
        self.assertEqual(settings.application_name, "ann|psql")
        self.assertEqual(dict(settings.pairs)["work_mem"], "4MB")
        self.assertEqual(len(settings.pairs), 2)
        self.assertEqual(Settings(()).stamped("ann").application_name, "ann|")

    @given(st.text(), st.text())
    def test_bounds(self, user: str, name: str) -> None:
        """Whatever the names are: printable ASCII, at most 63 bytes, and once is enough."""
        stamp = Settings((("application_name", name),)).stamped(user).application_name
        self.assertLessEqual(len(stamp.encode()), 63)
        self.assertTrue(all(32 <= ord(char) <= 126 for char in stamp), stamp)
        self.assertEqual(clean_name(stamp), stamp)

    def test_role(self) -> None:
        """set_role adds the role last, so that nothing of the client's comes after it."""
        settings = Settings((("work_mem", "4MB"),)).with_role("ann")
        self.assertEqual(settings.pairs[-1], ("role", "ann"))


class ToldTests(SynchronousTestCase):
    """What a client is told before it has a server."""

    def test_nothing_learnt(self) -> None:
        """Nobody can say before a server was seen."""
        self.assertIsNone(told(stub(), Settings(())))

    def test_plain(self) -> None:
        """Without settings the server's own values are told."""
        self.assertEqual(told(stub(**REPORTED), Settings(())), REPORTED)

    def test_own_name(self) -> None:
        """The stamped name is told as this client's, and the pool's values stay as they are."""
        pool = stub(**REPORTED)
        answer = told(pool, Settings(()).stamped("ann"))
        assert answer is not None
        self.assertEqual(answer["application_name"], "ann|")
        self.assertEqual(pool.parameters, REPORTED)

    def test_unlearnt(self) -> None:
        """What the server makes of a value is asked of the server, until it was learnt."""
        pool = stub(**REPORTED)
        settings = Settings((("datestyle", "iso, dmy"),))
        self.assertIsNone(told(pool, settings))
        learn(pool, settings, REPORTED | {"DateStyle": "ISO, DMY"})
        self.assertEqual((told(pool, settings) or {})["DateStyle"], "ISO, DMY")
        self.assertIsNone(told(pool, Settings((("datestyle", "sql"),))))

    def test_untracked(self) -> None:
        """A setting that no server reports needs a server, so that a bad one fails at once."""
        self.assertIsNone(told(stub(**REPORTED), Settings((("work_mem", "4MB"),))))

    def test_role_needs_none(self) -> None:
        """The role is set when a server is leased: nothing is told of it."""
        self.assertEqual(told(stub(**REPORTED), Settings(()).with_role("ann")), REPORTED)

    def test_bounded(self) -> None:
        """Clients with ever new values don't fill the memory."""
        pool = stub(**REPORTED)
        for number in range(3000):
            learn(pool, Settings((("datestyle", str(number)),)), REPORTED)
        self.assertLessEqual(len(pool.learnt), 1000)

    def test_names_are_not_learnt(self) -> None:
        """application_name is each client's own: it is not remembered."""
        pool = stub(**REPORTED)
        learn(pool, Settings((("application_name", "ann|psql"),)), REPORTED)
        self.assertEqual(pool.learnt, {})


class GreetingTests(SynchronousTestCase):
    """What a client is greeted with, made once for all who get the same."""

    def test_messages(self) -> None:
        """AuthenticationOk, and a ParameterStatus for each."""
        expected = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0"
        self.assertEqual(greet({"a": "b"}).said, expected)

    def test_as_told(self) -> None:
        """It says what is told, also when it is known already."""
        pool, settings = stub(**REPORTED), Settings(()).stamped("ann")
        for _ in range(2):
            self.assertEqual(greeting_of(pool, settings), greet(told(pool, settings) or {}))

    def test_unknown(self) -> None:
        """Where only a server can tell there is none, until it was learnt."""
        pool, settings = stub(**REPORTED), Settings((("datestyle", "sql"),))
        self.assertIsNone(greeting_of(pool, settings))
        for value in ("SQL, MDY", "SQL, DMY"):
            learn(pool, settings, REPORTED | {"DateStyle": value})
            greeting = greeting_of(pool, settings)
            assert greeting is not None
            self.assertIn(value.encode(), greeting.said)
            self.assertEqual(greeting.told["DateStyle"], value)

    def test_bounded(self) -> None:
        """Clients with ever new names don't fill the memory."""
        pool = stub(**REPORTED)
        for number in range(600):
            greeting_of(pool, Settings(()).stamped(str(number)))
        self.assertLessEqual(len(pool.greetings), 256)


class WantedTests(SynchronousTestCase):
    """What a server must be given."""

    def test_only_what_differs(self) -> None:
        """What it reports already is left out; what it does not report is always set."""
        settings = Settings(
            (("client_encoding", "UTF8"), ("datestyle", "German"), ("work_mem", "4MB"))
        )
        self.assertEqual(wanted(settings, REPORTED), (("datestyle", "German"), ("work_mem", "4MB")))


class RetoldTests(SynchronousTestCase):
    """A client's server may report otherwise than the client was told."""

    def test_differences(self) -> None:
        """Only what differs, and what is new."""
        told = {"TimeZone": "UTC", "server_version": "15.1", "is_superuser": "off"}
        self.assertEqual(retold(told, dict(told)), b"")
        now = {"TimeZone": "UTC", "server_version": "16.1", "in_hot_standby": "on"}
        self.assertEqual(
            retold(told, now),
            messages.parameter_status("server_version", "16.1")
            + messages.parameter_status("in_hot_standby", "on"),
        )

    def test_shared(self) -> None:
        """Clients who were told the same share one value: an idle one is small."""
        one, other = (greet({"TimeZone": "UTC"}) for _ in range(2))
        self.assertIs(one, other)
