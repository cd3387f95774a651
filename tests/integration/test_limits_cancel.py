"""Cancel requests, and clients that wait for a server."""

from __future__ import annotations

import contextlib
import secrets
import threading

from tests.integration.one_server import BACKEND, SLEEP, OneServerTestCase, sqlstate
from tests.support import pgbytes
from tests.support.blackbox import configuration, open_service
from tests.support.database import CLIENT, DATABASE
from tests.support.wireclient import WireClient


class CancelTests(OneServerTestCase):
    """Cancel requests reach the query they are for, and no other."""

    def sleeping(self, client: WireClient) -> None:
        """Have a client run a long query."""
        pid = client.value(BACKEND)
        client.send(pgbytes.query(SLEEP))
        self.database.wait_activity(f"pid = {pid} AND state = 'active'")

    def test_cancel(self) -> None:
        """The query ends with 57014, the session goes on (89)."""
        client = self.session()
        self.sleeping(client)
        client.cancel()
        self.assertEqual(sqlstate(client), "57014")
        self.assertEqual(client.value("SELECT 1"), "1")

    def test_cancel_in_tls(self) -> None:
        """The same by a request inside TLS (90)."""
        client = self.keep(self.proxy.session(CLIENT, DATABASE, tls=True))
        self.sleeping(client)
        client.cancel()
        self.assertEqual(sqlstate(client), "57014")

    def test_wrong_key(self) -> None:
        """A wrong key, a wrong number: closed in silence, nothing happens (91)."""
        client = self.session()
        self.sleeping(client)
        for _ in range(20):
            client.cancel(key=secrets.token_bytes(4))
        client.cancel(pid=client.pid ^ 1)
        pid_now = "query LIKE 'SELECT pg_sleep%' AND state = 'active'"
        self.database.wait_activity(pid_now)
        client.cancel()
        client.read_until("Z")

    def test_idle_client(self) -> None:
        """A cancel for a client without a query does not hit who has its server now (92)."""
        idle = self.session()
        idle.value("SELECT 1")
        pid, key = idle.pid, idle.key
        idle.cancel()
        self.assertEqual(idle.value("SELECT 2"), "2")
        idle.leave()
        busy = self.session()
        self.sleeping(busy)
        for _ in range(20):
            busy.cancel(pid, key)
        self.database.wait_activity("query LIKE 'SELECT pg_sleep%' AND state = 'active'")
        busy.cancel()
        self.assertEqual(sqlstate(busy), "57014")

    def test_waiting_client(self) -> None:
        """A query that still waits for a server is cancelled too (93)."""
        holder, waiting = self.session(), self.session()
        holder.query("BEGIN")
        waiting.send(pgbytes.query("SELECT 'never run'"))
        self.turn()
        waiting.cancel()
        messages = waiting.read_until("Z")
        self.assertEqual([message.kind for message in messages], ["E", "Z"])
        self.assertEqual(messages[0].fields()["C"], "57014")
        holder.leave()
        self.assertEqual(waiting.value("SELECT 'later'"), "later")

    def test_storm(self) -> None:
        """However many cancels come for one client, the next one is not hit (94)."""
        for _ in range(10):
            client = self.session()
            self.sleeping(client)
            storm = [threading.Thread(target=self.quietly, args=(client,)) for _ in range(8)]
            for thread in storm:
                thread.start()
            self.assertEqual(sqlstate(client), "57014")
            client.kill()
            with self.proxy.session(CLIENT, DATABASE) as following:
                for n in range(20):
                    self.assertEqual(following.value(f"SELECT {n}"), str(n))
                following.leave()
            for thread in storm:
                thread.join(20)

    def quietly(self, client: WireClient) -> None:
        """Cancel, whatever comes of it."""
        with contextlib.suppress(OSError):
            client.cancel()


class WaitingTests(OneServerTestCase):
    """A pool that is full."""

    def test_first_come(self) -> None:
        """Who waits gets the server in the order of coming."""
        holder = self.session()
        holder.query("BEGIN; TRUNCATE sink")
        waiting = [self.session() for _ in range(6)]
        for n, client in enumerate(waiting):
            client.send(pgbytes.query(f"INSERT INTO sink VALUES ({n}, clock_timestamp()::text)"))
            self.turn()
        holder.query("COMMIT")
        holder.leave()
        for client in waiting:
            client.read_until("Z")
            client.leave()
        order = "SELECT string_agg(id::text, ' ' ORDER BY note) FROM sink"
        self.assertEqual(self.ask(order), "0 1 2 3 4 5")

    def test_who_gave_up_is_passed_over(self) -> None:
        """A client that goes while it waits holds nobody up (72)."""
        holder, gone, patient = self.session(), self.session(), self.session()
        holder.query("BEGIN")
        gone.send(pgbytes.query("INSERT INTO sink VALUES (93)"))
        self.turn()
        patient.send(pgbytes.query("SELECT count(*) FROM sink WHERE id = 93"))
        gone.kill()
        self.turn()
        holder.leave()
        self.assertEqual(patient.read_until("Z")[1].columns(), ("0",))

    def test_full(self) -> None:
        """Still full after acquire_timeout: FATAL 53300 (98)."""
        connection = open_service(
            self.database, max_open_connections=1, min_idle_connections=0, acquire_timeout="1s"
        )
        proxy = self.start_daemon(configuration({"default": connection}))
        holder = self.keep(proxy.session(CLIENT, DATABASE))
        holder.query("BEGIN")
        late = self.keep(proxy.session(CLIENT, DATABASE))
        late.send(pgbytes.query("SELECT 1"))
        messages = late.read_to_end()
        fields = messages[0].fields()
        self.assertEqual([message.kind for message in messages], ["E"])
        self.assertEqual((fields["S"], fields["V"], fields["C"]), ("FATAL", "FATAL", "53300"))
        self.assertEqual(holder.value("SELECT 'kept'"), "kept")
