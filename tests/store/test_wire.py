"""
Tests of L{proxyd.store.wire}.
"""

from __future__ import annotations

import threading

import psycopg
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import StartError
from proxyd.store.wire import Wire
from tests.support.database import DATABASE, SERVICE, shared_database


class WireTests(SynchronousTestCase):
    """A connection that is there when it is needed."""

    def wire(self, **words: str) -> Wire:
        """A connection to the real server."""
        database = shared_database()
        password = database.passwords[SERVICE]
        dsn = database.dsn(database=DATABASE, **words).replace("@", f":{password}@", 1)
        wire = Wire(dsn, 60.0)
        self.addCleanup(wire.close)
        return wire

    def test_place(self) -> None:
        """What is shown of it has no password, whatever stands in it."""
        wire = Wire("postgresql://u:hunter2@h:5/db?sslmode=require&password=hunter3", 5.0)
        self.assertEqual(wire.place, "postgresql://h:5/db")

    def test_no_connection_string(self) -> None:
        """libpq's own words for a DSN that it can't read quote it, password and all."""
        error = self.assertRaises(StartError, Wire, "postgresql://u:hunter2 x@h/db", 5.0)
        self.assertNotIn("hunter2", f"{error} {error.__cause__}")
        self.assertTrue(error.__suppress_context__)

    def test_settings(self) -> None:
        """Statements have a deadline, and see the schema first; the DSN's own options hold."""
        wire = self.wire(options="-c%20work_mem%3D5MB")
        self.assertEqual(wire.run("SHOW statement_timeout", {}), [("1min",)])
        self.assertEqual(wire.run("SHOW search_path", {}), [("proxyd",)])
        self.assertEqual(wire.run("SHOW work_mem", {}), [("5MB",)])

    def test_all_or_nothing(self) -> None:
        """A transaction that fails leaves nothing, and the connection good."""
        wire = self.wire()
        wire.run("CREATE TEMPORARY TABLE t (a int)", {})
        with self.assertRaises(ZeroDivisionError), wire.transaction():
            wire.run("INSERT INTO t VALUES (%(a)s)", {"a": 1})
            _ = 1 // 0
        self.assertEqual(wire.run("SELECT * FROM t", {}), [])

    def test_made_anew(self) -> None:
        """One that was cut while it was idle is made anew for the next transaction."""
        wire = self.wire()
        [[first]] = wire.run("SELECT pg_backend_pid()", {})
        with shared_database().admin() as admin:
            admin.query(f"SELECT pg_terminate_backend({first}, 60000)")
        with wire.transaction():
            [[second]] = wire.run("SELECT pg_backend_pid()", {})
        self.assertNotEqual(first, second)

    def test_interrupt(self) -> None:
        """What hangs is broken off from another thread."""
        wire = self.wire()
        [[pid]] = wire.run("SELECT pg_backend_pid()", {})
        failed: list[BaseException] = []

        def hang() -> None:
            try:
                wire.run("SELECT pg_sleep(3600)", {})
            except psycopg.Error as error:
                failed.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        shared_database().wait_activity(f"pid = {pid} AND query LIKE '%pg_sleep%'")
        wire.interrupt()
        thread.join(60)
        self.assertEqual(len(failed), 1)

    def test_interrupt_nothing(self) -> None:
        """Where there is no connection there is nothing to break off."""
        self.wire().interrupt()
