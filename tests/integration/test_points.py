"""Points of docs/compatibility.md that have no other home."""

from __future__ import annotations

from tests.integration.one_server import BACKEND, OneServerTestCase, sqlstate
from tests.support import pgbytes
from tests.support.database import CLIENT, DATABASE, OPEN_SERVICE


class PointTests(OneServerTestCase):
    """Each by its number."""

    def test_backend_pid(self) -> None:
        """The number in a client's key is proxyd's, what it asks for the server's (41)."""
        client = self.session()
        client.query("LISTEN news")
        client.send(pgbytes.query("NOTIFY news"))
        (told,) = [message for message in client.read_until("Z") if message.kind == "A"]
        backend = int(client.value(BACKEND) or 0)
        self.assertEqual(int.from_bytes(told.body[:4], "big"), backend)
        self.assertNotEqual(client.pid, backend)

    def test_prepared_transaction(self) -> None:
        """A prepared transaction outlives its session, as with PostgreSQL (65)."""
        with self.proxy.session(CLIENT, DATABASE) as client:
            pid = client.value(BACKEND)
            client.query("BEGIN; INSERT INTO sink VALUES (6565)")
            client.query("PREPARE TRANSACTION 'point 65'")
            client.leave()
        count = "SELECT count(*) FROM sink WHERE id = 6565"
        with self.proxy.session(CLIENT, DATABASE) as client:
            self.assertEqual(client.value(BACKEND), pid)
            self.assertEqual(client.value(count), "0")
            client.query("ROLLBACK PREPARED 'point 65'")
            self.assertEqual(client.value(count), "0")

    def test_no_verbs_of_ours(self) -> None:
        """Other poolers' verbs are the server's errors (CVE-2026-6667)."""
        client = self.session()
        for verb in ("SHOW POOLS", "KILL shop", "PAUSE", "RELOAD", "SHUTDOWN", "SHOW CLIENTS"):
            client.send(pgbytes.query(verb))
            with self.database.direct() as direct:
                direct.send(pgbytes.query(verb))
                self.assertEqual(sqlstate(client), sqlstate(direct), verb)
        client.leave()
        for name in ("pgbouncer", "pgcat", "odyssey", "proxyd", "console"):
            with self.proxy.session(CLIENT, name) as other:
                self.assertEqual(other.value("SELECT current_user"), OPEN_SERVICE)
                other.leave()
