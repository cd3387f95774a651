"""
Clients of a proxyd that has one server connection.

A client then surely gets the connection that another had, and one client more
has to wait for it.
"""

from __future__ import annotations

from tests.support.blackbox import BlackBoxTestCase, configuration, open_service, shared_daemon
from tests.support.database import CLIENT, DATABASE, Database
from tests.support.wireclient import WireClient

SLEEP = "SELECT pg_sleep(50)"
BACKEND = "SELECT pg_backend_pid()"


class OneServerTestCase(BlackBoxTestCase):
    """Clients of a proxyd that has one server connection."""

    def setUp(self) -> None:
        """Have that proxyd."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(single(self.database)))

    def session(self) -> WireClient:
        """A client that has logged in."""
        return self.keep(self.proxy.session(CLIENT, DATABASE))

    def ask(self, sql: str) -> str | None:
        """What a new client gets for a query."""
        with self.proxy.session(CLIENT, DATABASE) as client:
            value = client.value(sql)
            client.leave()
        return value

    def turn(self) -> None:
        """Wait until proxyd has seen all that was sent to it before."""
        for _ in range(2):
            self.proxy.session(CLIENT, DATABASE).leave()

    def wait_idle(self, pid: str | None) -> None:
        """Wait until a server process does nothing, and is in no transaction."""
        self.database.wait_activity(f"pid = {pid} AND state = 'idle'")


def sqlstate(client: WireClient) -> str:
    """The code of the error that an answer ends with; empty where it has none."""
    errors = [message for message in client.read_until("Z") if message.kind == "E"]
    return errors[-1].fields().get("C", "") if errors else ""


def single(database: Database) -> str:
    """One server connection, for clients that need no password."""
    connection = open_service(
        database, max_open_connections=1, min_idle_connections=1, acquire_timeout="20s"
    )
    return configuration({"default": connection})
