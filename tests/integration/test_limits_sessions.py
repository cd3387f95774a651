"""What one client leaves to the next: nothing, however it went, and whatever the server did."""

from __future__ import annotations

from tests.integration.one_server import BACKEND, SLEEP, OneServerTestCase, sqlstate
from tests.support import pgbytes
from tests.support.blackbox import configuration, service
from tests.support.database import CLIENT, DATABASE, OPEN_SERVICE, OTHER_CLIENT, SERVICE
from tests.support.wireclient import ServerError


class LeavingTests(OneServerTestCase):
    """Clients that go without a word."""

    def left(self, statement: str, condition: str, *, reset: bool) -> None:
        """A client that goes at this point, and what the next one then finds."""
        client = self.session()
        pid = client.value(BACKEND)
        client.send(pgbytes.query(statement))
        self.database.wait_activity(f"pid = {pid} AND {condition}")
        if reset:
            client.kill()
        else:
            client.close()
        self.wait_idle(pid)
        self.assertEqual(self.ask(BACKEND), pid)

    def test_killed_in_query(self) -> None:
        """Its query is cancelled, and the connection is used again (72)."""
        self.left(SLEEP, "state = 'active'", reset=True)

    def test_closed_in_query(self) -> None:
        """The same where it closed in good order, but for the Terminate (72)."""
        self.left(SLEEP, "state = 'active'", reset=False)

    def test_killed_in_result(self) -> None:
        """The same where it leaves a result of gigabytes unread (72)."""
        self.left(
            "SELECT repeat('x', 10000) FROM generate_series(1, 1000000)",
            "wait_event = 'ClientWrite'",
            reset=True,
        )

    def test_closed_in_transaction(self) -> None:
        """What it began is rolled back (74)."""
        self.left("BEGIN; INSERT INTO sink VALUES (74)", "state LIKE 'idle in%'", reset=False)
        self.assertEqual(self.ask("SELECT count(*) FROM sink WHERE id = 74"), "0")

    def test_closed_in_failed_transaction(self) -> None:
        """The same where that had failed already (74)."""
        self.left("BEGIN; SELECT 1/0", "state = 'idle in transaction (aborted)'", reset=False)

    def test_terminated_in_transaction(self) -> None:
        """Terminate is not handed on to the server (71)."""
        client = self.session()
        pid = client.value(BACKEND)
        client.query("BEGIN; INSERT INTO sink VALUES (71)")
        client.leave()
        self.wait_idle(pid)
        self.assertEqual(self.ask(BACKEND), pid)
        self.assertEqual(self.ask("SELECT count(*) FROM sink WHERE id = 71"), "0")

    def test_closed_in_batch(self) -> None:
        """A batch without its Sync is never made whole by the next client (72)."""
        client = self.session()
        client.value("SELECT 1")
        client.send(pgbytes.extended("INSERT INTO sink VALUES (72)") + pgbytes.FLUSH)
        client.read_until("C")
        client.kill()
        self.assertEqual(self.ask("SELECT count(*) FROM sink WHERE id = 72"), "0")

    def test_closed_in_message(self) -> None:
        """Half a message is never made whole by the next client (73)."""
        client = self.session()
        client.value("SELECT 1")
        client.send(pgbytes.query("INSERT INTO sink VALUES (73); SELECT 'long'")[:-9])
        self.turn()
        client.kill()
        self.assertEqual(self.ask("SELECT count(*) FROM sink WHERE id = 73"), "0")

    def test_closed_in_copy(self) -> None:
        """A COPY without its end takes nothing (59, 72)."""
        client = self.session()
        client.send(pgbytes.query("COPY sink FROM STDIN"))
        client.read_until("G")
        client.send(pgbytes.copy_data(b"59\tx\n"))
        client.kill()
        self.assertEqual(self.ask("SELECT count(*) FROM sink WHERE id = 59"), "0")

    def test_many_leave_at_once(self) -> None:
        """A storm of clients that go in mid-query, waiting ones too, ends in good order (72)."""
        storm = [self.session() for _ in range(30)]
        for client in storm:
            client.send(pgbytes.query(SLEEP))
        self.turn()
        for client in storm:
            client.kill()
        self.assertEqual(self.ask("SELECT 'calm'"), "calm")


class NextClientTests(OneServerTestCase):
    """What a client set up for itself is gone when the next one comes (65, 84, 85)."""

    def after(
        self, statements: str, question: str, answer: str | None, *, same: bool = True
    ) -> None:
        """What the next client on the same connection is told."""
        with self.proxy.session(CLIENT, DATABASE) as client:
            pid = client.value(BACKEND)
            client.query(statements)
            client.leave()
        with self.proxy.session(CLIENT, DATABASE) as client:
            self.assertEqual(client.value(question), answer)
            self.assertEqual(client.value(BACKEND), pid)

    def test_temporary_table(self) -> None:
        """No temporary table."""
        self.after("CREATE TEMP TABLE own (i int)", "SELECT to_regclass('own')", None)

    def test_setting(self) -> None:
        """No setting."""
        self.after("SET work_mem = '77MB'", "SHOW work_mem", "4MB")

    def test_search_path(self) -> None:
        """No search_path, which no ParameterStatus ever tells of."""
        self.after("SET search_path = pg_catalog", "SHOW search_path", '"$user", public')

    def test_reported_setting(self) -> None:
        """No setting that the server reports."""
        self.after("SET DateStyle = 'German'", "SHOW DateStyle", "ISO, MDY")

    def test_role(self) -> None:
        """No role."""
        self.after("SET ROLE clerk", "SELECT current_user", OPEN_SERVICE)

    def test_listen(self) -> None:
        """No subscription."""
        self.after("LISTEN news", "SELECT count(*) FROM pg_listening_channels()", "0")

    def test_prepared(self) -> None:
        """No prepared statement."""
        self.after("PREPARE p AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements", "0")

    def test_lock(self) -> None:
        """No advisory lock."""
        count = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        self.after("SELECT pg_advisory_lock(65)", count, "0")

    def test_held_cursor(self) -> None:
        """No cursor."""
        declare = "BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT 1; COMMIT"
        self.after(declare, "SELECT count(*) FROM pg_cursors", "0")

    def test_sequence(self) -> None:
        """No memory of a sequence."""
        client = self.session()
        client.query("CREATE SEQUENCE seq65; SELECT nextval('seq65')")
        client.leave()
        try:
            error = self.assertRaises(ServerError, self.ask, "SELECT lastval()")
            self.assertEqual(error.sqlstate, "55000")
        finally:
            # What is dumped in other tests must be the service user's.
            self.ask("DROP SEQUENCE seq65; SELECT 1")

    def test_unnamed_statement(self) -> None:
        """No unnamed statement: never another client's (53)."""
        with self.proxy.session(CLIENT, DATABASE) as client:
            client.send(pgbytes.parse("SELECT 'secret'") + pgbytes.SYNC)
            client.read_until("Z")
            client.leave()
        with self.proxy.session(CLIENT, DATABASE) as client:
            client.send(pgbytes.bind() + pgbytes.execute() + pgbytes.SYNC)
            self.assertEqual(sqlstate(client), "26000")

    def test_start_setting(self) -> None:
        """No setting from another's start-up packet (22)."""
        with self.proxy.session(CLIENT, DATABASE, TimeZone="Asia/Tokyo") as client:
            self.assertEqual(client.value("SHOW TimeZone"), "Asia/Tokyo")
            client.leave()
        with self.proxy.session(CLIENT, DATABASE) as client:
            self.assertEqual(client.parameters["TimeZone"], client.value("SHOW TimeZone"))
            self.assertNotEqual(client.parameters["TimeZone"], "Asia/Tokyo")

    def test_application_name(self) -> None:
        """Each is seen on the server under its own name."""
        with self.proxy.session(CLIENT, DATABASE, application_name="one") as client:
            self.assertEqual(client.value("SHOW application_name"), f"{CLIENT}|one")
            client.leave()
        with self.proxy.session(OTHER_CLIENT, DATABASE, application_name="x" * 90) as client:
            told = client.value("SHOW application_name") or ""
            self.assertEqual(told, f"{OTHER_CLIENT}|{'x' * 90}"[:63])

    def test_reset_all(self) -> None:
        """RESET ALL and DISCARD ALL go back to the start-up packet's settings, as on PostgreSQL."""
        wishes = {
            "application_name": "app",
            "search_path": "pg_catalog, public",
            "TimeZone": "Asia/Tokyo",
            "DateStyle": "SQL, DMY",
            "my.note": "mine",
            "work_mem": "7MB",
        }
        asked = "SELECT concat_ws('|', {})".format(
            ", ".join(f"current_setting('{name}')" for name in wishes)
        )
        everything = f"{CLIENT}|app|pg_catalog, public|Asia/Tokyo|SQL, DMY|mine|7MB"
        with self.proxy.session(CLIENT, DATABASE, **wishes) as client:
            self.assertEqual(client.value(asked), everything)
            for reset in ("RESET ALL", "DISCARD ALL", "SELECT 1; RESET ALL; SELECT 2"):
                client.query("SET search_path = evil; SET TimeZone = 'UTC'; SET my.note = 'other'")
                client.query(reset)
                self.assertEqual(client.value(asked), everything)
            client.send(pgbytes.extended("RESET ALL") + pgbytes.SYNC)
            client.read_until("Z")
            self.assertEqual(client.value(asked), everything)
            # In a transaction they are put back at its end; rolled back there is nothing to do.
            client.query("BEGIN; RESET ALL; SELECT 1")
            client.query("COMMIT")
            self.assertEqual(client.value(asked), everything)
            client.query("BEGIN; RESET ALL")
            client.query("ROLLBACK")
            self.assertEqual(client.value(asked), everything)
            client.leave()

    def test_reset_of_one(self) -> None:
        """RESET of the name puts back the name; what the client has set itself stays."""
        wishes = {"application_name": "app", "search_path": "public", "my.note": "mine"}
        with self.proxy.session(CLIENT, DATABASE, **wishes) as client:
            client.query("SET search_path = pg_catalog; SET my.note = 'other'")
            client.query("RESET application_name")
            self.assertEqual(client.value("SHOW application_name"), f"{CLIENT}|app")
            self.assertEqual(client.value("SHOW search_path"), "pg_catalog")
            self.assertEqual(client.value("SHOW my.note"), "other")
            # Who takes the pool's own name gets what was asked for.
            own = client.value("SELECT reset_val FROM pg_settings WHERE name = 'application_name'")
            client.query(f"SET application_name = '{own}'")
            self.assertEqual(client.value("SHOW application_name"), own)
            client.leave()

    def test_role_after_discard(self) -> None:
        """With C{identity: set_role} a client is itself again after its own DISCARD ALL."""
        with self.database.admin() as admin:
            admin.query(f"GRANT {CLIENT} TO {SERVICE}")
        here = service(self.database, auth="trust", identity="set_role")
        proxy = self.start_daemon(configuration({"default": here}))
        with proxy.session(CLIENT, DATABASE) as client:
            for reset in ("DISCARD ALL", "RESET ALL", "RESET ROLE; RESET ALL"):
                self.assertEqual(client.value("SELECT current_user"), CLIENT)
                client.query(reset)
            self.assertEqual(client.value("SELECT current_user"), CLIENT)
            # Without a reset of all else it is as the client wants it: a role is no boundary.
            client.query("RESET ROLE")
            self.assertEqual(client.value("SELECT current_user"), SERVICE)
            client.leave()

    def test_told_of_a_reset(self) -> None:
        """The client is told by ParameterStatus what holds in the end."""
        with self.proxy.session(CLIENT, DATABASE, TimeZone="Asia/Tokyo") as client:
            client.value("SELECT 1")
            client.send(pgbytes.query("RESET ALL") + pgbytes.query("SELECT 2"))
            told = {}
            for message in client.read_until("ZZ"):
                if message.kind == "S":
                    name, value = message.strings()
                    told[name] = value
            client.send(pgbytes.query("SELECT 3"))
            for message in client.read_until("Z"):
                if message.kind == "S":
                    name, value = message.strings()
                    told[name] = value
            self.assertEqual(told["TimeZone"], client.value("SHOW TimeZone"))
            self.assertEqual(told["TimeZone"], "Asia/Tokyo")
            self.assertEqual(told["application_name"], f"{CLIENT}|")
            client.leave()


class ServerLossTests(OneServerTestCase):
    """Servers that go away."""

    def test_lost_in_the_pool(self) -> None:
        """A connection that dies unused is replaced unseen (77, 80)."""
        pid = self.ask(BACKEND)
        with self.database.admin() as admin:
            admin.query(f"SELECT pg_terminate_backend({pid}, 10000)")
        self.assertNotEqual(self.ask(BACKEND), pid)

    def test_lost_in_a_query(self) -> None:
        """The client is told, and let go (78, 79)."""
        client = self.session()
        pid = client.value(BACKEND)
        client.send(pgbytes.query(SLEEP))
        self.database.wait_activity(f"pid = {pid} AND state = 'active'")
        with self.database.admin() as admin:
            admin.query(f"SELECT pg_terminate_backend({pid}, 10000)")
        last = client.read_to_end()[-1]
        self.assertEqual((last.kind, last.fields()["S"]), ("E", "FATAL"))
        self.assertIn(last.fields()["C"], ("57P01", "08006"))
        self.assertEqual(self.ask("SELECT 'next'"), "next")

    def test_query_cancelled_on_the_server(self) -> None:
        """pg_cancel_backend is an error like another (82)."""
        client = self.session()
        pid = client.value(BACKEND)
        client.send(pgbytes.query(SLEEP))
        self.database.wait_activity(f"pid = {pid} AND state = 'active'")
        with self.database.admin() as admin:
            admin.query(f"SELECT pg_cancel_backend({pid})")
        self.assertEqual(sqlstate(client), "57014")
        self.assertEqual(client.value(BACKEND), pid)
