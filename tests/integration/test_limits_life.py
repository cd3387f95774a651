"""The daemon's life with clients on it: how it ends, and how it takes a new configuration."""

from __future__ import annotations

import signal

from tests.support import pgbytes
from tests.support.blackbox import BlackBoxTestCase, configuration, open_service
from tests.support.daemon import PORT, Daemon
from tests.support.database import CLIENT, DATABASE
from tests.support.deadlines import wait_until
from tests.support.wireclient import Hangup, Message, ServerError, WireClient


class LifeTestCase(BlackBoxTestCase):
    """Tests of a daemon of their own."""

    def daemon(self, drain_timeout: str = "30s") -> Daemon:
        """A proxyd whose clients need no password."""
        connections = {"default": open_service(self.database, max_open_connections=4)}
        return self.start_daemon(configuration(connections, drain_timeout=drain_timeout))

    def session(self, proxy: Daemon) -> WireClient:
        """A client that has logged in."""
        return self.keep(proxy.session(CLIENT, DATABASE))

    def assert_told(self, messages: list[Message], sqlstate: str) -> None:
        """The last thing said is a complete FATAL with this code."""
        fields = messages[-1].fields()
        told = (messages[-1].kind, fields["S"], fields["V"], fields["C"])
        self.assertEqual(told, ("E", "FATAL", "FATAL", sqlstate))
        self.assertTrue(fields["M"])


class DrainTests(LifeTestCase):
    """SIGTERM and SIGINT."""

    def drained(self, number: signal.Signals) -> None:
        """Idle clients are sent away, transactions finish, new ones are turned down (99)."""
        proxy = self.daemon()
        idle, used, busy, asking = (self.session(proxy) for _ in range(4))
        used.query("SELECT 1")
        busy.query("BEGIN")
        pid = asking.value("SELECT pg_backend_pid()")
        asking.send(pgbytes.query("SELECT pg_sleep(0.5), 'answered'"))
        self.database.wait_activity(f"pid = {pid} AND query LIKE 'SELECT pg_sleep%'")
        proxy.signal(number)
        self.assert_told(idle.read_to_end(), "57P01")
        self.assert_told(used.read_to_end(), "57P01")
        late = self.assertRaises((ServerError, Hangup), proxy.session, CLIENT, DATABASE)
        self.assertIsInstance(late, ServerError)
        self.assertEqual((late.sqlstate, late.fields["S"]), ("57P03", "FATAL"))
        self.assertEqual(busy.value("SELECT 'still served'"), "still served")
        last = asking.read_to_end()
        self.assertIn("D", [message.kind for message in last])
        self.assert_told(last, "57P01")
        busy.send(pgbytes.query("COMMIT"))
        last = busy.read_to_end()
        self.assertEqual(last[0].strings(), ["COMMIT"])
        self.assert_told(last, "57P01")
        self.assertEqual(proxy.wait_ended(), -number)

    def test_terminate(self) -> None:
        """SIGTERM drains, and the process ends by it."""
        self.drained(signal.SIGTERM)

    def test_interrupt(self) -> None:
        """SIGINT does the same."""
        self.drained(signal.SIGINT)

    def test_second_signal(self) -> None:
        """A second signal does not wait for anybody."""
        proxy = self.daemon()
        busy = self.session(proxy)
        busy.query("BEGIN")
        proxy.signal(signal.SIGTERM)
        proxy.wait_told("STOPPING=1", 20)
        proxy.signal(signal.SIGTERM)
        self.assertEqual(proxy.wait_ended(), -signal.SIGTERM)
        for message in busy.read_to_end():
            self.assertEqual(message.fields()["C"], "57P01")

    def test_drain_timeout(self) -> None:
        """A transaction that does not end is ended after drain_timeout."""
        proxy = self.daemon(drain_timeout="1s")
        busy = self.session(proxy)
        busy.query("BEGIN; INSERT INTO sink VALUES (99)")
        proxy.signal(signal.SIGTERM)
        self.assert_told(busy.read_to_end(), "57P01")
        self.assertEqual(proxy.wait_ended(), -signal.SIGTERM)
        with self.database.direct() as owner:
            self.assertEqual(owner.value("SELECT count(*) FROM sink WHERE id = 99"), "0")

    def test_nothing_is_left(self) -> None:
        """No child of its own outlives it, no server connection, no traceback in the log."""
        proxy = self.daemon()
        self.session(proxy).value("SELECT 1")
        self.assertEqual(proxy.children(), [])
        proxy.signal(signal.SIGTERM)
        proxy.wait_ended()
        self.assertNotIn("Traceback", proxy.log_text())
        self.database.wait_activity("application_name LIKE 'alice|%'", count=0)


class ReloadTests(LifeTestCase):
    """SIGHUP."""

    def rewritten(self, proxy: Daemon, **connections: dict[str, object]) -> None:
        """Give it another configuration, and have it read."""
        proxy.write(configuration(connections))
        proxy.reload()

    def test_new_connection(self) -> None:
        """A connection that is new serves from then on; sessions go on."""
        connection = open_service(self.database)
        proxy = self.start_daemon(configuration({"first": connection}))
        before = self.keep(proxy.session(CLIENT, "first"))
        before.query("BEGIN")
        self.assertRaises(ServerError, proxy.session, CLIENT, "second")
        self.rewritten(proxy, first=connection, second=connection)
        self.assertEqual(before.value("SELECT 'kept'"), "kept")
        with proxy.session(CLIENT, "second") as client:
            self.assertEqual(client.value("SELECT current_database()"), DATABASE)

    def test_removed_connection(self) -> None:
        """A connection that is gone serves nobody any more."""
        connection = open_service(self.database)
        proxy = self.start_daemon(configuration({"first": connection, "second": connection}))
        self.rewritten(proxy, first=connection)
        self.assertRaises(ServerError, proxy.session, CLIENT, "second")
        with proxy.session(CLIENT, "first") as client:
            self.assertEqual(client.value("SELECT 1"), "1")

    def test_bad_file(self) -> None:
        """A file that can't be used changes nothing, and the log says why."""
        proxy = self.daemon()
        good = self.session(proxy)
        good.query("BEGIN")
        proxy.write(f'postgres: {{listen: ["127.0.0.1:{PORT}"], max_clients: many}}\n')
        proxy.reload()
        proxy.wait_logged(r"proxyd\.yaml:1: postgres\.max_clients: ")
        self.assertEqual(good.value("SELECT 'kept'"), "kept")
        with proxy.session(CLIENT, DATABASE) as client:
            self.assertEqual(client.value("SELECT 'as before'"), "as before")

    def test_again_and_again(self) -> None:
        """Reloads leave nothing open behind them."""
        connection = open_service(self.database, min_idle_connections=0)
        proxy = self.start_daemon(configuration({"default": connection}))
        self.session(proxy).value("SELECT 1")
        proxy.reload()
        before = proxy.descriptors()
        for _ in range(10):
            proxy.reload()
        wait_until(lambda: proxy.descriptors() <= before, 60, "the descriptors to be as before")
