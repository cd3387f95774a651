"""Tests for L{proxyd.postgres.manner}."""

from __future__ import annotations

import os
import pwd
import socket

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.dsn import parse_dsn
from proxyd.errors import DialError, DialFailure
from proxyd.postgres.manner import Manner, manner_of
from proxyd.target import Target
from proxyd.wire.pg.login import DEFAULT

HOST = Target("db.example", 5432)
SOCKET = Target("/run/postgresql/.s.PGSQL.5432", 5432)


def manner(words: str = "", host: str = "db.example") -> Manner:
    """What a DSN with these words asks for."""
    return manner_of(parse_dsn(f"host={host} {words}", {"HOME": "/"}).dsn)


class WordTests(SynchronousTestCase):
    """What each word becomes."""

    def test_usual(self) -> None:
        """Without a word: libpq's defaults."""
        self.assertEqual(manner(), Manner("prefer"))

    def test_require_auth(self) -> None:
        """A list is what is allowed; what is forbidden leaves the rest of what is usual."""
        for words, allowed in (
            ("scram-sha-256", {"scram-sha-256"}),
            ("md5,gss", {"md5", "gss"}),
            ("password", {"password"}),
            ("!md5", {"none", "scram-sha-256"}),
            ("!none,!gss", {"md5", "scram-sha-256"}),
            ("!password", DEFAULT),
        ):
            self.assertEqual(manner(f"require_auth={words}").allow, allowed, words)

    def test_never_in_clear_by_leaving_out(self) -> None:
        """Only C{require_auth=password} gives a password in clear away."""
        for words in ("!md5", "!scram-sha-256,!md5", "!none"):
            self.assertNotIn("password", manner(f"require_auth={words}").allow)

    def test_versions(self) -> None:
        """3.0, unless more is asked for; who asks for more at least gets the latest."""
        for words, versions in (
            ("", (0, 0)),
            ("max_protocol_version=3.2", (0, 2)),
            ("max_protocol_version=latest", (0, 2)),
            ("min_protocol_version=3.2", (2, 2)),
            ("min_protocol_version=3.0", (0, 0)),
        ):
            found = manner(words)
            self.assertEqual((found.least_minor, found.minor), versions, words)

    def test_startup(self) -> None:
        """What our own connections say of themselves."""
        said = manner("options='-c geqo=off' client_encoding=LATIN1 fallback_application_name=f")
        self.assertEqual(
            said.startup,
            {"options": "-c geqo=off", "client_encoding": "LATIN1", "application_name": "f"},
        )
        said = manner("application_name=a fallback_application_name=f")
        self.assertEqual(said.startup, {"application_name": "a"})

    def test_others(self) -> None:
        """The rest."""
        said = manner(
            "sslmode=require sslnegotiation=direct sslsni=0 channel_binding=require"
            " target_session_attrs=standby load_balance_hosts=random requirepeer=ann"
        )
        self.assertTrue(said.direct and said.balance)
        self.assertFalse(said.names_server)
        self.assertEqual((said.binding, said.attributes, said.peer), ("require", "standby", "ann"))


class WayTests(SynchronousTestCase):
    """The ways to try, by sslmode."""

    def test_ways(self) -> None:
        """As libpq."""
        for mode, ways in (
            ("disable", ("plain",)),
            ("allow", ("plain?", "tls")),
            ("prefer", ("tls?", "plain")),
            ("require", ("tls",)),
            ("verify-full", ("tls",)),
        ):
            self.assertEqual(Manner(mode).ways(HOST), ways)
            self.assertEqual(Manner(mode).ways(SOCKET), ("plain",))

    def test_binding_required(self) -> None:
        """Channel binding is there in TLS only: nothing else is tried."""
        for mode in ("allow", "prefer", "require"):
            self.assertEqual(Manner(mode, binding="require").ways(HOST), ("tls",))


class SocketTests(SynchronousTestCase):
    """What is done to a connected socket."""

    def connected(self) -> socket.socket:
        """A TCP socket."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            sock = socket.create_connection(listening.getsockname())
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock

    def test_keepalive(self) -> None:
        """What the DSN says; 0 leaves what is usual here."""
        sock = self.connected()
        usual = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        manner("keepalives_idle=7 keepalives_interval=3 keepalives_count=0").settle(sock, HOST)
        for option, value in (
            (socket.TCP_KEEPIDLE, 7),
            (socket.TCP_KEEPINTVL, 3),
            (socket.TCP_KEEPCNT, usual),
        ):
            self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, option), value)
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)

    def test_no_keepalive(self) -> None:
        """keepalives=0: none."""
        sock = self.connected()
        manner("keepalives=0 keepalives_idle=7").settle(sock, HOST)
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 0)

    def test_largest(self) -> None:
        """The system takes every value that the configuration lets through."""
        words = "keepalives_idle=32767 keepalives_interval=32767 keepalives_count=127"
        manner(words).settle(self.connected(), HOST)

    def test_pair(self) -> None:
        """A socket that is no TCP socket of our own is left alone."""
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        manner("keepalives_idle=7").settle(one, HOST)

    def test_peer(self) -> None:
        """requirepeer: the user whose process listens on a UNIX socket."""
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        me = pwd.getpwuid(os.getuid()).pw_name
        manner(f"requirepeer={me}", "/run/postgresql").settle(one, SOCKET)
        error = self.assertRaises(
            DialError, manner("requirepeer=somebody", "/run/postgresql").settle, one, SOCKET
        )
        self.assertIs(error.failure, DialFailure.DENIED)
        self.assertIn(f"{me} serves this socket", str(error))
