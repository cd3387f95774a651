"""
Servers that are terminated under a hundred clients: who is told, and who need not know.

In session mode a client has its server from its first message to its end. What
is terminated while nobody has it is replaced unseen; what somebody has takes
that somebody with it, and nobody else.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter

from tests.support import pgbytes
from tests.support.blackbox import BlackBoxTestCase, configuration, service, shared_daemon
from tests.support.database import DATABASE, SERVICE, Database
from tests.support.seeds import SOAK
from tests.support.wireclient import Hangup, ServerError, WireClient

CLIENTS = 100
POOL = 10
HOLDERS = 40
ROUNDS = 3
SESSIONS = 50 if SOAK else 5
"""Sessions of each client, one after the other, under load."""

LOST = {"57P01", "08006"}
OURS = f"usename = '{SERVICE}' AND datname = '{DATABASE}'"


class BackendsKilledTests(BlackBoxTestCase):
    """A hundred clients, and servers that go (77-79, 82)."""

    deadline = 120.0 + 600.0 * SOAK

    def daemon(self, pool: int) -> None:
        """Have a proxyd with a pool of this size."""
        self.proxy = self.watch(shared_daemon(pooled(self.database, pool)))

    def entered(self, count: int) -> list[WireClient]:
        """So many clients, logged in; they have no server yet."""
        return [self.keep(self.proxy.session(f"c{n}", DATABASE)) for n in range(count)]

    def kill(self, condition: str = "true") -> int:
        """Terminate the servers that fit, and wait until they are gone; gives how many."""
        with self.database.admin() as admin:
            rows = admin.query(
                "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity"
                f" WHERE {OURS} AND ({condition})"
            )
        self.assertEqual(set(rows), {("t",)})
        return len(rows)

    def outcome(self, client: WireClient) -> str:
        """What a client is told in the end: its rows, or the code of its last error."""
        messages = client.read_until("Z")
        if not messages:
            return "closed"
        last = messages[-1]
        if last.kind == "E":
            return last.fields()["C"]
        return ",".join(row.columns()[0] or "" for row in messages if row.kind == "D")

    def test_between_transactions(self) -> None:
        """All servers of the pool are terminated: none of 100 clients sees an error."""
        self.daemon(POOL)
        for turn in range(ROUNDS):
            with self.proxy.session("c", DATABASE) as client:
                client.query("SELECT 1")
                client.leave()
            clients = self.entered(CLIENTS)
            self.assertGreater(self.kill(), 0)
            for client in clients:
                self.assertEqual(client.query(f"SELECT {turn}"), [(str(turn),)])
                client.leave()

    def test_held_between_transactions(self) -> None:
        """A server that a session has can't be replaced: exactly the holders are told 57P01."""
        self.daemon(CLIENTS)
        clients = self.entered(CLIENTS)
        for client in clients[:HOLDERS]:
            client.query("SET my.own = 'state of this session'")
        self.assertEqual(self.kill("query LIKE 'SET my.own%'"), HOLDERS)
        told = Counter(self.outcome(client) for client in clients[:HOLDERS])
        self.assertEqual(told, {"57P01": HOLDERS})
        for client in clients[HOLDERS:]:
            self.assertEqual(client.query("SELECT 1"), [("1",)])

    def test_inside_transactions(self) -> None:
        """Exactly those whose transaction it was are told: 57P01, at work or between statements."""
        self.daemon(CLIENTS)
        clients = self.entered(CLIENTS)
        half = HOLDERS // 2
        working, resting = clients[:half], clients[half:HOLDERS]
        for client in working:
            client.send(pgbytes.query("BEGIN; SELECT pg_sleep(100)"))
        for client in resting:
            client.query("BEGIN; SELECT 1")
        others = clients[HOLDERS : HOLDERS + half]
        for client in others:
            client.query("BEGIN; SELECT 'other'")
        self.database.wait_activity(f"{OURS} AND query ~ 'sleep' AND state = 'active'", count=half)
        self.assertEqual(self.kill("query ~ 'pg_sleep' OR query = 'BEGIN; SELECT 1'"), HOLDERS)
        told = Counter(self.outcome(client) for client in clients[:HOLDERS])
        self.assertEqual(told, {"57P01": HOLDERS})
        for client in others:
            self.assertEqual(client.query("SELECT 2; COMMIT"), [("2",)])
        for client in clients[HOLDERS + half :]:
            self.assertEqual(client.query("SELECT 3"), [("3",)])

    def test_under_load(self) -> None:
        """Sessions come and go while servers are terminated: at most one is lost for each."""
        self.daemon(POOL)
        told: list[str] = []
        over = threading.Event()

        def live(number: int) -> None:
            for _ in range(SESSIONS):
                told.append(self.one_session(f"c{number}"))

        threads = [threading.Thread(target=live, args=(n,), daemon=True) for n in range(CLIENTS)]
        killer = threading.Thread(target=self.kill_until, args=(over,), daemon=True)
        self.killed = 0
        for thread in (killer, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        killer.join()
        counts = Counter(told)
        sys.stderr.write(f"\n{self.id()}: {self.killed} servers terminated: {dict(counts)}\n")
        self.assertEqual(len(told), CLIENTS * SESSIONS)
        self.assertEqual(counts.keys() - LOST - {"done"}, set())
        self.assertLessEqual(len(told) - counts["done"], self.killed)
        self.assertGreater(self.killed, 0)

    def one_session(self, user: str) -> str:
        """Log in, do something in a transaction, go; how it went."""
        client = WireClient(self.proxy.host, self.proxy.port, seconds=60.0)
        try:
            client.login(user, DATABASE)
            client.query("BEGIN")
            client.query("SELECT 1")
            client.query("COMMIT")
            client.leave()
        except ServerError as error:
            return error.sqlstate
        except Hangup:
            return "08006"
        finally:
            client.close()
        return "done"

    def kill_until(self, over: threading.Event) -> None:
        """Terminate one resting server after the other."""
        with self.database.admin() as admin:
            while not over.wait(0.05):
                rows = admin.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    f" WHERE {OURS} AND state = 'idle' AND query LIKE 'DISCARD%' LIMIT 1"
                )
                self.killed += len(rows)


def pooled(database: Database, size: int) -> str:
    """So many server connections, for clients that need no password."""
    dsn = database.dsn(database=DATABASE, sslmode="disable")
    keys = {"auth": "trust", "max_open_connections": size, "acquire_timeout": "60s"}
    return configuration({"default": service(database, dsn=dsn, min_idle_connections=2, **keys)})
