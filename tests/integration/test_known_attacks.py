"""
What broke other poolers and servers, tried on proxyd: a test for each.

Those of clients are here. What a hostile server tries is in
L{tests.postgres.test_opening}, L{tests.wire.pg.test_login} and
L{tests.wire.pg.test_scram}.
"""

from __future__ import annotations

import ssl
from struct import pack

from tests.support import pgbytes
from tests.support.blackbox import (
    BlackBoxTestCase,
    configuration,
    open_service,
    service,
    shared_daemon,
)
from tests.support.database import CLIENT, DATABASE, OPEN_SERVICE, OTHER_CLIENT, SERVICE, Database
from tests.support.wireclient import Hangup, ServerError, WireClient

PWNED = "CREATE TABLE pwned ()"
# No length at all, too short ones, those that wrap to small numbers in 32 bits, and the longest.
LENGTHS = (0, 1, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC, 0x40000000)


def asking(database: Database) -> str:
    """A connection that asks for passwords, one that trusts, and one that takes clients' roles."""
    dsn = database.dsn(database=DATABASE, sslmode="disable")
    return configuration(
        {
            DATABASE: service(database, dsn=dsn),
            "open": open_service(database, max_open_connections=2),
            "roles": service(database, dsn=dsn, auth="trust", identity="set_role"),
        }
    )


class KnownAttacks(BlackBoxTestCase):
    """Each ends in an error for whoever tries, and in nothing for everybody else."""

    def setUp(self) -> None:
        """Have a proxyd."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(asking(self.database)))
        self.addCleanup(self.serves)

    def serves(self) -> None:
        """proxyd is as it was: it serves, and nobody did what only the service user may."""
        with self.proxy.session(CLIENT, DATABASE, self.database.passwords[CLIENT]) as client:
            self.assertEqual(client.value("SELECT to_regclass('pwned')"), None)
            client.leave()
        self.assertNotIn("Traceback", self.proxy.log_text())

    def client(self) -> WireClient:
        """A connection on which nothing was said."""
        return self.keep(self.proxy.client(seconds=10))

    def refused(self, user: str, password: str, database: str = DATABASE, **settings: str) -> str:
        """The SQLSTATE with which a login ends."""
        error: ServerError = self.assertRaises(
            ServerError, self.proxy.session, user, database, password, **settings
        )
        return error.sqlstate

    def test_cve_2012_4575(self) -> None:
        """PgBouncer: a long database name. Names are cut to 63 bytes, once, before any rule."""
        password = self.database.passwords[CLIENT]
        for name in ("x" * 64, "x" * 9_000, "é" * 4_000):
            self.assertEqual(self.refused(CLIENT, password, name), "28P01")
            self.assertEqual(self.refused(name, password), "28P01")

    def test_cve_2015_4054(self) -> None:
        """PgBouncer: packets out of their order, before the login and within it."""
        packets = [pgbytes.message(kind, b"x\0") for kind in "pQPBEDCSHXdcfFVZRKv\0\xff"]
        for packet in packets:
            client = self.client()
            client.send(packet + packet)
            self.assertTrue(all(said.kind == "E" for said in client.read_to_end()))
            client = self.client()
            client.send(pgbytes.startup({"user": CLIENT, "database": DATABASE}))
            client.read_until("R")
            if packet[:1] != b"p":
                client.send(packet)
                self.assertTrue(all(said.kind == "E" for said in client.read_to_end()), packet)

    def test_cve_2015_6817(self) -> None:
        """PgBouncer: a user nobody knows became auth_user. Nobody becomes the service user."""
        for user in ("nobody-knows", SERVICE, "postgres", "", " ", "*", "\x01", "SVC"):
            for password in ("", "md5" + "0" * 32, SERVICE):
                self.assertIn(self.refused(user, password), ("28P01", "28000"), (user, password))

    def test_cve_2021_3935(self) -> None:
        """PgBouncer, PostgreSQL (CVE-2021-23214), Odyssey: bytes in clear taken for TLS's."""
        stuffed = pgbytes.startup({"user": OPEN_SERVICE, "database": "open"}) + pgbytes.query(PWNED)
        client = self.client()
        client.send(pgbytes.SSL_REQUEST + stuffed)
        self.assertNotIn(b"Z\0\0\0\5", b"".join(iter(client.receive, b"")))
        # Behind the answer, where TLS should begin, they are no TLS either.
        client = self.client()
        client.send(pgbytes.SSL_REQUEST)
        self.assertEqual(client.read_bytes(1), b"S")
        client.send(stuffed)
        self.assertNotIn(b"Z\0\0\0\5", b"".join(iter(client.receive, b"")))

    def test_cve_2023_22332(self) -> None:
        """Pgpool: passwords in the log. Not the right one, not a wrong one, not as an option."""
        self.refused(CLIENT, "wrong-but-secret")
        self.refused(CLIENT, "x", options="-c password=secret-option")
        for words in ({"password": "secret-parameter"}, {"my.password": "secret-setting"}):
            client = self.client()
            client.send(pgbytes.startup({"user": CLIENT, "database": "open", **words}))
            client.half_close()
            client.read_to_end()
        log = self.proxy.log_text()
        for secret in ("but-secret", "secret-option", "secret-parameter", "secret-setting"):
            self.assertNotIn(secret, log)

    def test_cve_2024_1597(self) -> None:
        """pgjdbc and Odyssey (issue 149): SQL within names. Names are values, never SQL."""
        names = [f"x'; {PWNED}; --", f'x"; {PWNED}; --', f"$${PWNED}$$", "%u", "\\'; --", "x\nSET"]
        for name in names:
            # As a role there is none of this name; as a label it is a label.
            with self.assertRaises((ServerError, Hangup)):
                self.proxy.session(name, "roles").value("SELECT 1")
            with self.proxy.session(name, "open", application_name=name) as client:
                self.assertEqual(client.value("SELECT current_user"), OPEN_SERVICE)
                client.leave()
            for settings in ({"search_path": name}, {"TimeZone": name}, {"my.own": name}):
                try:
                    with self.proxy.session(CLIENT, "open", **settings) as client:
                        client.value("SELECT 1")
                        client.leave()
                except ServerError as error:
                    self.assertEqual(error.sqlstate, "22023")

    def test_cve_2024_27304(self) -> None:
        """pgx: lengths that wrap, so that a message's body is read as messages."""
        for length in LENGTHS:
            client = self.keep(self.proxy.session(OPEN_SERVICE, "open"))
            client.send(b"Q" + pack("!I", length) + pgbytes.query(PWNED) + pgbytes.SYNC)
            client.half_close()
            client.read_to_end()

    def test_cve_2026_6664(self) -> None:
        """PgBouncer: lengths that overflow before the login; nothing is allocated for them."""
        for length in LENGTHS:
            client = self.client()
            client.send(pack("!I", length) + pgbytes.startup({"user": CLIENT})[4:])
            client.half_close()
            self.assertTrue(all(said.kind == "E" for said in client.read_to_end()))
            client = self.client()
            client.send(pgbytes.startup({"user": CLIENT, "database": DATABASE}))
            client.read_until("R")
            client.send(b"p" + pack("!I", length) + b"x" * 100)
            client.half_close()
            self.assertTrue(all(said.kind == "E" for said in client.read_to_end()))

    def test_cve_2024_45624(self) -> None:
        """Pgpool: rows out of a cache for users without the right to them. Nothing is cached."""
        with self.database.admin() as admin:
            admin.query(f"GRANT {CLIENT}, {OTHER_CLIENT} TO {SERVICE}")
            admin.query(f"CREATE TABLE IF NOT EXISTS his (x int); GRANT SELECT ON his TO {CLIENT}")
        for _ in range(3):
            with self.proxy.session(CLIENT, "roles") as client:
                self.assertEqual(client.value("SELECT count(*) FROM his"), "0")
                client.leave()
            with self.proxy.session(OTHER_CLIENT, "roles") as client:
                error: ServerError = self.assertRaises(
                    ServerError, client.value, "SELECT count(*) FROM his"
                )
                self.assertEqual(error.sqlstate, "42501")
                client.leave()

    def test_cve_2025_2291(self) -> None:
        """PgBouncer: VALID UNTIL was not looked at. The server decides, with all it knows."""
        with self.database.admin() as admin:
            admin.query("DROP ROLE IF EXISTS late, barred, full")
            admin.query("CREATE ROLE late LOGIN PASSWORD 'p' VALID UNTIL 'yesterday'")
            admin.query("CREATE ROLE barred NOLOGIN PASSWORD 'p'")
            admin.query("CREATE ROLE full LOGIN PASSWORD 'p' CONNECTION LIMIT 0")
        states = {user: self.refused(user, "p") for user in ("late", "barred", "full")}
        self.assertEqual(states, {"late": "28P01", "barred": "28000", "full": "53300"})

    def test_cve_2025_46801(self) -> None:
        """Pgpool: a wrong password was good where a server connection was there already."""
        right = self.database.passwords[CLIENT]
        with self.proxy.session(CLIENT, DATABASE, right) as inside:
            inside.value("SELECT 1")
            for wrong in (right[:-1], right + " ", right + "\x01", "x", right.upper()):
                self.assertEqual(self.refused(CLIENT, wrong), "28P01")
            # Nor is somebody's right password another's.
            self.assertEqual(self.refused(OTHER_CLIENT, right), "28P01")
            inside.leave()

    def test_cve_2025_12819(self) -> None:
        """PgBouncer: a search_path reached the connection that checks passwords."""
        with self.database.admin() as admin:
            admin.query("DROP ROLE IF EXISTS eve; CREATE ROLE eve LOGIN PASSWORD 'p'")
            admin.query("CREATE SCHEMA IF NOT EXISTS evil AUTHORIZATION eve")
        # A value that the checking connection would have choked on comes to nothing before
        # the password was good, and is refused after it.
        self.assertEqual(self.refused("eve", "wrong", TimeZone="no/zone"), "28P01")
        self.assertEqual(self.refused("eve", "p", TimeZone="no/zone"), "22023")
        with self.proxy.session("eve", DATABASE, "p", search_path="evil") as client:
            self.assertEqual(client.value("SHOW search_path"), "evil")
            client.leave()

    def test_alpaca(self) -> None:
        """The client of another protocol that is led here by TLS is not answered."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = self.client()
        client.begin_tls(context)
        client.send(b"GET / HTTP/1.1\r\nHost: bank.example\r\n\r\n")
        self.assertEqual(client.receive(), b"")
