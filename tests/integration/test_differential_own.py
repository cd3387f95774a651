"""
Where proxyd is not PostgreSQL, and says or does something of its own.

Each difference here is meant; all else is in L{tests.integration.test_differential}.
"""

from __future__ import annotations

import ssl
from struct import pack

from tests.integration.test_differential import trusting
from tests.support import pgbytes
from tests.support.blackbox import BlackBoxTestCase, shared_daemon
from tests.support.database import DATABASE, OPEN_SERVICE
from tests.support.wireclient import Message, ServerError, WireClient, trusting_context

WHO = {"user": OPEN_SERVICE, "database": DATABASE}


class OwnTests(BlackBoxTestCase):
    """What proxyd does its own way before a session begins."""

    def setUp(self) -> None:
        """Have a proxyd whose clients need no password."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(trusting(self.database)))

    def client(self) -> WireClient:
        """A connection on which nothing was said."""
        return self.keep(self.proxy.client(seconds=10))

    def assert_fatal(self, messages: list[Message], *sqlstates: str) -> dict[str, str]:
        """The one thing said is a complete FATAL with one of these codes; gives its fields."""
        self.assertEqual([message.kind for message in messages], ["E"])
        fields = messages[0].fields()
        self.assertEqual((fields["S"], fields["V"]), ("FATAL", "FATAL"))
        self.assertIn(fields["C"], sqlstates)
        self.assertTrue(fields["M"])
        return fields

    def test_replication(self) -> None:
        """Replication is not offered: 0A000, never an ordinary session (19)."""
        for value in ("true", "database", "on", "1"):
            client = self.client()
            client.send(pgbytes.startup(WHO | {"replication": value}))
            self.assert_fatal(client.read_to_end(), "0A000")

    def test_old_protocol(self) -> None:
        """Protocol 2 is refused in words that today's clients can read (13)."""
        client = self.client()
        client.send(pgbytes.startup(WHO, 2 << 16))
        self.assert_fatal(client.read_to_end(), "0A000")

    def test_gss(self) -> None:
        """GSSENCRequest is answered N, and all goes on, TLS too (2, 3)."""
        client = self.client()
        client.send(pgbytes.GSSENC_REQUEST)
        self.assertEqual(client.read_bytes(1), b"N")
        client.start_tls()
        client.login(OPEN_SERVICE, DATABASE)
        self.assertEqual(client.value("SELECT 1"), "1")

    def test_gss_by_bytes(self) -> None:
        """The same in segments of one byte, without TLS (2, 8)."""
        client = self.client()
        client.send(pgbytes.GSSENC_REQUEST, range(1, 8))
        self.assertEqual(client.read_bytes(1), b"N")
        client.login(OPEN_SERVICE, DATABASE)
        self.assertEqual(client.value("SELECT 1"), "1")

    def test_gss_twice(self) -> None:
        """A second GSSENCRequest is no protocol version (3)."""
        client = self.client()
        client.send(pgbytes.GSSENC_REQUEST)
        client.read_bytes(1)
        client.send(pgbytes.GSSENC_REQUEST)
        self.assert_fatal(client.read_to_end(), "0A000", "08P01")

    def stuffed(self, request: bytes) -> None:
        """What came in clear behind a request for encryption is never taken (5)."""
        client = self.client()
        client.send(request + pgbytes.startup(WHO) + pgbytes.query("SELECT 'stuffed'"))
        said = b"".join(iter(client.receive, b""))
        self.assertNotIn(b"stuffed", said)
        # Nothing but an answer to the request and a FATAL, which names no session's key.
        self.assertNotIn(b"K\0\0\0\x0c", said)
        self.assertTrue(said in (b"", b"S", b"N") or b"C08P01\0" in said, said)

    def test_stuffed_behind_ssl_request(self) -> None:
        """Bytes behind SSLRequest end the connection."""
        self.stuffed(pgbytes.SSL_REQUEST)

    def test_stuffed_behind_gss_request(self) -> None:
        """Bytes behind GSSENCRequest do too."""
        self.stuffed(pgbytes.GSSENC_REQUEST)

    def test_direct_tls(self) -> None:
        """TLS from the first byte, as PostgreSQL 17's clients can begin it (6)."""
        context = trusting_context()
        context.set_alpn_protocols(["postgresql"])
        client = self.client()
        client.begin_tls(context)
        client.login(OPEN_SERVICE, DATABASE)
        self.assertEqual(client.value("SELECT 'direct'"), "direct")

    def test_direct_tls_without_alpn(self) -> None:
        """Without the protocol's name, or with another, it is refused (6)."""
        other = trusting_context()
        other.set_alpn_protocols(["http/1.1"])
        for context in (trusting_context(), other):
            client = self.client()
            try:
                client.begin_tls(context)
                client.send(pgbytes.startup(WHO))
                self.assertEqual(client.read_to_end(), [])
            except (ssl.SSLError, OSError) as error:
                # A TLS alert is the proper way to say so; silence is not.
                self.assertNotIsInstance(error, TimeoutError)

    def test_other_protocol_in_tls(self) -> None:
        """A client that asks for TLS and then offers other protocols only is refused (7)."""
        context = trusting_context()
        context.set_alpn_protocols(["http/1.1"])
        client = self.client()
        try:
            client.start_tls(context)
            client.send(pgbytes.startup(WHO))
            self.assertEqual(client.read_to_end(), [])
        except (ssl.SSLError, OSError) as error:
            self.assertNotIsInstance(error, TimeoutError)

    def test_forbidden_settings(self) -> None:
        """Settings that are not a client's to choose at its start are refused by name (21)."""
        forbidden = {"role": "clerk", "session_authorization": "postgres", "log_statement": "all"}
        for name, value in forbidden.items():
            for words in ({name: value}, {"options": f"-c {name}={value}"}):
                client = self.client()
                client.send(pgbytes.startup(WHO | words))
                fields = self.assert_fatal(
                    client.read_to_end(), "42501", "42704", "0A000", "22023", "55P02"
                )
                self.assertIn(name, fields["M"])

    def test_lying_length(self) -> None:
        """A start-up packet whose length is a lie is not waited for beyond the deadline (10)."""
        client = self.client()
        client.send(pack("!ii", 9_999, pgbytes.PROTOCOL_3_0))
        client.half_close()
        for message in client.read_to_end():
            self.assertEqual(message.fields()["C"], "08P01")

    def test_names_with_controls(self) -> None:
        """Line ends in a name don't get into the log as such (23)."""
        name = "eve\n2000-01-01 info [proxyd] all is well\x1b[2J"
        with self.proxy.session(name, DATABASE, application_name=name) as client:
            client.query("SELECT 1")
            client.leave()
        self.proxy.wait_logged("eve")
        log = self.proxy.log_text()
        self.assertNotIn("\n2000-01-01", log)
        self.assertNotIn("\x1b", log)

    def test_cut_off_copy(self) -> None:
        """A COPY whose client says that it sends no more takes nothing (67)."""
        client = self.keep(self.proxy.session(OPEN_SERVICE, DATABASE))
        client.send(pgbytes.query("COPY sink FROM STDIN"))
        client.read_until("G")
        client.send(pgbytes.copy_data(b"67\tx\n"))
        client.half_close()
        client.read_to_end()
        with self.database.direct() as owner:
            self.assertEqual(owner.value("SELECT count(*) FROM sink WHERE id = 67"), "0")

    def test_key_data(self) -> None:
        """The process number told is a positive one, and no two sessions have the same (40)."""
        sessions = [self.keep(self.proxy.session(OPEN_SERVICE, DATABASE)) for _ in range(20)]
        pids, keys = {client.pid for client in sessions}, {client.key for client in sessions}
        self.assertEqual((len(pids), len(keys)), (20, 20))
        self.assertTrue(all(0 < pid < 2**31 for pid in pids), pids)

    def test_no_user_is_told_first(self) -> None:
        """A start-up packet without a user is refused as PostgreSQL does (17)."""
        error = self.assertRaises(ServerError, self.proxy.session, "", DATABASE)
        self.assertEqual(error.sqlstate, "28000")
