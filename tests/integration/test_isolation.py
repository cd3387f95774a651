"""
Nothing of one client's reaches another, whatever all of them do at once.

Eight users a crowd, three server connections, and servers that are terminated
under them: for a minute, or with C{PROXYD_SOAK=1} for half an hour. One crowd's
connections are reset by DISCARD ALL, the other's (by TLS to the server) closed
after each session; a third of the sessions come by TLS.
"""

from __future__ import annotations

import random
import threading

from tests.integration.crowd import Crowd
from tests.support.blackbox import BlackBoxTestCase, configuration, service
from tests.support.database import DATABASE, SERVICE
from tests.support.seeds import SOAK, printed_seed

SECONDS = 1800.0 if SOAK else 60.0
PAUSE = 0.1 if SOAK else 0.4
"""Seconds between two requests of a client, at most: the load that a crowd makes."""
USERS = 8
POOL = 3
TERMINATE_EVERY = (0.2, 1.0)
"""Seconds between two terminated servers."""


class IsolationTests(BlackBoxTestCase):
    """Crowds of clients on few servers (45-74, 77-82, 92-94)."""

    deadline = SECONDS + 120.0

    def test_crowds(self) -> None:
        """No foreign row, nothing left behind, nothing done twice, and nobody hangs."""
        seed = printed_seed(self.id())
        here = self.database
        with here.admin() as admin:
            admin.query("GRANT INSERT ON sink TO clerk")
        dblink = self.has_extension("dblink")
        keys = {"auth": "trust", "max_open_connections": POOL, "acquire_timeout": "60s"}
        tls = here.dsn(database=DATABASE, sslmode="require")
        connections = {
            "kept": service(here, dsn=here.dsn(database=DATABASE, sslmode="disable"), **keys),
            "closing": service(here, dsn=tls, reset="close", **keys),
        }
        proxy = self.start_daemon(configuration(connections))
        over = threading.Event()
        crowds = [
            Crowd(proxy, here, name, seed, PAUSE, name == "closing", dblink, over)
            for name in connections
        ]
        threads = [thread for crowd in crowds for thread in crowd.start(USERS)]
        try:
            terminated = self.terminate_until(over, random.Random(seed))
        finally:
            over.set()
        for thread in threads:
            thread.join(90.0)
            self.assertFalse(thread.is_alive(), "a client hangs")
        for crowd in crowds:
            self.assertEqual(crowd.faults, [], f"PROXYD_SEED={seed}")
            self.assertGreater(crowd.counts["sessions"], 5 * USERS, crowd.counts)
        # A terminated server costs the one client that was on it, at most.
        lost = sum(crowd.counts["lost"] for crowd in crowds)
        self.assertLessEqual(lost, terminated)
        proxy.wait_no_clients()
        self.look_at_the_table(crowds)
        self.assertNotIn("Traceback", proxy.log_text())

    def terminate_until(self, over: threading.Event, chance: random.Random) -> int:
        """Terminate one server connection after the other; gives how many."""
        deadline = threading.Timer(SECONDS, over.set)
        deadline.daemon = True
        deadline.start()
        terminated = 0
        self.addCleanup(deadline.cancel)
        with self.database.admin() as admin:
            while not over.wait(chance.uniform(*TERMINATE_EVERY)):
                done = admin.query(
                    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
                    f" WHERE usename = '{SERVICE}' ORDER BY random() LIMIT 1) one"
                )
                terminated += len(done)
        return terminated

    def look_at_the_table(self, crowds: list[Crowd]) -> None:
        """What was committed is there once; what was not is not there."""
        with self.database.admin() as admin:
            rows = admin.query(
                "SELECT note, count(*) FROM sink WHERE note ~ '^(always|never)' GROUP BY 1"
            )
            admin.query("DELETE FROM sink WHERE note ~ '^(always|never)'")
        found = {note or "": count for note, count in rows}
        self.assertEqual([note for note in found if note.startswith("never")], [])
        self.assertEqual([note for note, count in found.items() if count != "1"], [])
        committed = set().union(*(crowd.committed for crowd in crowds))
        self.assertEqual(committed - found.keys(), set())
