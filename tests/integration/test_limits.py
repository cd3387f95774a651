"""
What is too much, and what is much but not too much: rows, streams, clients, strangers.

C{PROXYD_SOAK=1} in the environment makes the crowds as large as promised in
full; without it they are as large as a quick run allows.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
from struct import pack

from tests.integration.drivers import backed
from tests.support import pgbytes
from tests.support.blackbox import (
    BlackBoxTestCase,
    configuration,
    open_service,
    service,
    shared_daemon,
)
from tests.support.database import CLIENT, DATABASE, OPEN_SERVICE, Database
from tests.support.deadlines import wait_until
from tests.support.wireclient import ServerError, WireClient

SOAK = os.environ.get("PROXYD_SOAK") == "1"
MIB = 1 << 20
GROWTH = 8 * MIB
IDLE_CLIENTS = 5_000 if SOAK else 1_000
STRANGERS = 2_000
# What the kernel keeps for the three sockets on the way, at its most generous.
IN_FLIGHT = 64 * MIB
STOP = 4711


class BigTests(BlackBoxTestCase):
    """Rows and streams of any size pass through; proxyd's memory stays what it was."""

    deadline = 120.0

    def setUp(self) -> None:
        """Have a proxyd whose clients need no password."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(roomy(self.database)))

    def session(self, *, tls: bool = False) -> WireClient:
        """A client that has logged in and has a server."""
        client = self.keep(self.proxy.session(OPEN_SERVICE, DATABASE, tls=tls))
        client.query("SELECT 1")
        return client

    def begin_watch(self) -> None:
        """From here on memory counts."""
        self.proxy.forget_highest_rss()
        self.before = self.proxy.rss()

    def assert_did_not_grow(self) -> None:
        """proxyd never held more than it did, but for its buffers."""
        growth = self.proxy.highest_rss() - self.before
        self.assertLess(growth, GROWTH, f"proxyd grew by {growth / MIB:.1f} MiB")

    def through(self, size: int, *, tls: bool) -> None:
        """One row of this size, read and thrown away."""
        client = self.session(tls=tls)
        # The server puts the whole row together before it sends the first byte.
        client.be_patient(self.deadline)
        self.begin_watch()
        client.send(pgbytes.query(f"SELECT repeat('x', {size})"))
        client.read_until("T")
        header = client.read_bytes(5)
        self.assertEqual(header[:1], b"D")
        body = int.from_bytes(header[1:], "big") - 4
        self.assertGreater(body, size)
        self.assertEqual(client.throw_away(body), body)
        self.assertEqual([m.kind for m in client.read_until("Z")], ["C", "Z"])
        self.assert_did_not_grow()

    def test_gigabyte_row(self) -> None:
        """A row of 1 GB passes (60, 66)."""
        self.through(1_000_000_000, tls=False)

    def test_big_row_in_tls(self) -> None:
        """The same inside TLS (60, 66)."""
        self.through(1_000_000_000 if SOAK else 100_000_000, tls=True)

    def test_big_query(self) -> None:
        """A statement of 100 MB passes the other way (66)."""
        client = self.session()
        self.begin_watch()
        self.assertEqual(client.value(f"SELECT length('{'y' * 100_000_000}')"), "100000000")
        self.assert_did_not_grow()

    def test_slow_server(self) -> None:
        """A COPY to a server that takes no more waits at the client, not in proxyd (69)."""
        with self.database.direct() as owner, self.database.admin() as admin:
            owner.query(
                "CREATE TABLE slow (note text);"
                "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN PERFORM pg_advisory_xact_lock_shared({STOP}); RETURN NEW; END $$;"
                "CREATE TRIGGER waits BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION wait()"
            )
            self.addCleanup(self._drop_slow)
            admin.query(f"SELECT pg_advisory_lock({STOP})")
            client = self.session()
            client.send(pgbytes.query("COPY slow FROM STDIN"))
            client.read_until("G")
            self.begin_watch()
            rows = pgbytes.copy_data(b"z" * 99_999 + b"\n") * 1_500
            sent = sent_until_full(client.socket, rows)
            self.assertLess(sent, IN_FLIGHT)
            self.assert_did_not_grow()
            admin.query(f"SELECT pg_advisory_unlock({STOP})")
            client.send(rows[sent:] + pgbytes.COPY_DONE)
            done = client.read_until("Z")
            self.assertEqual(done[0].strings(), ["COPY 1500"])
            self.assert_did_not_grow()

    def _drop_slow(self) -> None:
        with self.database.direct() as owner:
            owner.query("DROP TABLE slow; DROP FUNCTION wait()")

    def test_client_that_stops_reading(self) -> None:
        """A client that reads no more stops its server, and nobody else (60, 69)."""
        reader, other = self.session(), self.session()
        self.begin_watch()
        marker = "SELECT repeat('never read', 100) FROM generate_series(1, 300000)"
        reader.send(pgbytes.query(marker))
        stuck = f"query = $q${marker}$q$ AND wait_event = 'ClientWrite'"
        self.database.wait_activity(stuck)
        for n in range(50):
            self.assertEqual(other.value(f"SELECT {n}"), str(n))
        self.assert_did_not_grow()
        reader.kill()
        self.database.wait_activity(stuck, count=0)

    def test_pipeline_nobody_reads(self) -> None:
        """A client that only sends, with both sides full, still gets every answer (69)."""
        client = self.session()
        self.begin_watch()
        ask = pgbytes.query(f"SELECT repeat('a', 10000) /* {'long' * 500} */")
        pipeline = ask * (IN_FLIGHT // len(ask))
        sent = sent_until_full(client.socket, pipeline)
        self.assert_did_not_grow()
        self.assertLess(sent, len(pipeline))
        asked, begun = divmod(sent, len(ask))
        for _ in range(asked):
            client.read_until("Z")
        if begun:
            client.send(ask[begun:])
            client.read_until("Z")
        self.assertEqual(client.value("SELECT 'all'"), "all")


class CrowdTests(BlackBoxTestCase):
    """Many clients at once, idle ones and strangers."""

    deadline = 120.0

    def setUp(self) -> None:
        """Allow this process as many sockets as it takes."""
        super().setUp()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = max(IDLE_CLIENTS, STRANGERS) + 500
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def test_idle_clients(self) -> None:
        """Thousands who say nothing cost no server, and keep nobody out."""
        proxy = self.watch(shared_daemon(roomy(self.database)))
        with contextlib.ExitStack() as crowd:
            for _ in range(IDLE_CLIENTS):
                crowd.enter_context(proxy.session(OPEN_SERVICE, DATABASE))
            wait_until(
                lambda: proxy.client_sockets() == IDLE_CLIENTS, 20, "proxyd to hold all clients"
            )
            with proxy.session(OPEN_SERVICE, DATABASE) as one:
                self.assertEqual(one.value("SELECT 'one more'"), "one more")

    def test_strangers(self) -> None:
        """Thousands who send one byte are gone at their deadline; who logs in gets in (24)."""
        proxy = self.start_daemon(
            configuration({"default": service(self.database)}, {"auth_timeout": "3s"})
        )
        password = self.database.passwords[CLIENT]
        with contextlib.ExitStack() as crowd:
            strangers = [crowd.enter_context(proxy.client()) for _ in range(STRANGERS)]
            for stranger in strangers:
                with contextlib.suppress(OSError):
                    stranger.send(b"\0")
            with proxy.session(CLIENT, DATABASE, password) as good:
                self.assertEqual(good.value("SELECT 'in'"), "in")
                for stranger in strangers:
                    stranger.read_to_end()
                self.assertEqual(good.value("SELECT 'still in'"), "still in")
            proxy.wait_no_clients()

    def test_too_many_clients(self) -> None:
        """One more than max_clients is told so, 53300, and there is room again later (97)."""
        text = configuration({"default": open_service(self.database)}, {"max_clients": 3})
        proxy = self.start_daemon(text)
        with contextlib.ExitStack() as crowd:
            for _ in range(3):
                crowd.enter_context(proxy.session(OPEN_SERVICE, DATABASE))
            error = self.assertRaises(ServerError, proxy.session, OPEN_SERVICE, DATABASE)
            self.assertEqual((error.sqlstate, error.fields["S"]), ("53300", "FATAL"))
        proxy.wait_no_clients()
        with proxy.session(OPEN_SERVICE, DATABASE) as one:
            self.assertEqual(one.value("SELECT 1"), "1")


class StrangerTests(BlackBoxTestCase):
    """What a client may send before it has logged in."""

    def setUp(self) -> None:
        """Have a proxyd that asks for passwords."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(backed(self.database)))

    def asked(self) -> WireClient:
        """A client that was asked for its password."""
        client = self.keep(self.proxy.client())
        client.send(pgbytes.startup({"user": CLIENT, "database": DATABASE}))
        message = client.read_message()
        assert message is not None
        self.assertEqual((message.kind, message.body), ("R", pack("!i", 3)))
        return client

    def assert_refused(self, client: WireClient, *sqlstates: str) -> None:
        """The one thing that comes is a complete FATAL with one of these codes."""
        messages = client.read_to_end()
        self.assertEqual([message.kind for message in messages], ["E"])
        fields = messages[0].fields()
        self.assertEqual((fields["S"], fields["V"]), ("FATAL", "FATAL"))
        self.assertIn(fields["C"], sqlstates)

    def test_start_packet_too_long(self) -> None:
        """10,001 bytes of start-up packet: closed on its length alone (10)."""
        client = self.keep(self.proxy.client())
        client.send(pack("!ii", 10_001, pgbytes.PROTOCOL_3_0))
        for message in client.read_to_end():
            self.assertEqual(message.fields()["C"], "08P01")

    def test_password_too_long(self) -> None:
        """A password of 65,536 bytes is refused on its length alone, not waited for (27)."""
        client = self.asked()
        client.send(b"p" + pack("!i", 4 + 65_536 + 1))
        self.assert_refused(client, "08P01", "28P01")

    def test_longest_password(self) -> None:
        """A password of 65,535 bytes is one, though a wrong one (27)."""
        client = self.asked()
        client.send(pgbytes.message("p", b"x" * 65_535 + b"\0"))
        self.assert_refused(client, "28P01")

    def test_empty_password(self) -> None:
        """An empty password is none (28)."""
        client = self.asked()
        client.send(pgbytes.message("p", b"\0"))
        self.assert_refused(client, "28P01")

    def test_bytes_behind_the_password(self) -> None:
        """A password message with more than the password: 08P01 (29)."""
        client = self.asked()
        client.send(pgbytes.message("p", b"one\0two\0"))
        self.assert_refused(client, "08P01")

    def test_no_password_message(self) -> None:
        """Something else than the password: 08P01 (30)."""
        client = self.asked()
        client.send(pgbytes.query("SELECT 1"))
        self.assert_refused(client, "08P01")

    def test_hangs_up(self) -> None:
        """psql's first try hangs up when it is asked; nobody is told of a failed login."""
        before = len(self.proxy.log_text())
        client = self.asked()
        client.close()
        self.proxy.wait_no_clients()
        self.assertNotIn("failed", self.proxy.log_text()[before:])

    def test_who_exists_is_not_told(self) -> None:
        """A wrong password and a user nobody knows get the same words (25)."""
        told = []
        for user in (CLIENT, "mallory"):
            error = self.assertRaises(ServerError, self.proxy.session, user, DATABASE, "wrong")
            fields = {k: v.replace(user, "USER") for k, v in error.fields.items()}
            told.append(fields)
        self.assertEqual(told[0], told[1])
        self.assertEqual(told[0]["C"], "28P01")

    def test_database_nobody_knows(self) -> None:
        """Which databases there are is told after a good login only: 3D000 (25)."""
        password = self.database.passwords[CLIENT]
        wrong = self.assertRaises(ServerError, self.proxy.session, CLIENT, "nowhere", "wrong")
        self.assertEqual(wrong.sqlstate, "28P01")
        right = self.assertRaises(ServerError, self.proxy.session, CLIENT, "nowhere", password)
        self.assertEqual(right.sqlstate, "3D000")


def roomy(database: Database) -> str:
    """Clients need no password, and there are connections enough for a test."""
    return configuration({"default": open_service(database, max_open_connections=6)})


def sent_until_full(there: socket.socket, data: bytes, quiet: float = 1.0) -> int:
    """
    Send as much as goes out; gives how much, once nothing more did for a while.

    The socket blocks again afterwards.
    """
    timeout = there.gettimeout()
    there.setblocking(False)
    sent = 0
    try:
        while sent < len(data) and select.select([], [there], [], quiet)[1]:
            with contextlib.suppress(BlockingIOError):
                sent += there.send(memoryview(data)[sent : sent + MIB])
    finally:
        there.settimeout(timeout)
    return sent
