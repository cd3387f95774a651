"""
What one client leaves to the next: nothing, however it went.

proxyd here has one server connection, so that a client surely gets the one that
another had, and a client more has to wait for it.
"""

from __future__ import annotations

import contextlib
import secrets
import threading

from tests.support import pgbytes
from tests.support.blackbox import (
    BlackBoxTestCase,
    configuration,
    open_service,
    service,
    shared_daemon,
)
from tests.support.database import CLIENT, DATABASE, OPEN_SERVICE, OTHER_CLIENT, SERVICE, Database
from tests.support.deadlines import wait_until
from tests.support.wireclient import Hangup, ServerError, WireClient

SLEEP = "SELECT pg_sleep(50)"
BACKEND = "SELECT pg_backend_pid()"


class OneServerTestCase(BlackBoxTestCase):
    """Clients of a proxyd that has one server connection."""

    def setUp(self) -> None:
        """Have that proxyd."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(single(self.database)))

    def session(self, **settings: str) -> WireClient:
        """A client that has logged in."""
        return self.keep(self.proxy.session(CLIENT, DATABASE, **settings))

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
        use = "CREATE SEQUENCE IF NOT EXISTS seq65; SELECT nextval('seq65')"
        client = self.session()
        client.query(use)
        client.leave()
        error = self.assertRaises(ServerError, self.ask, "SELECT lastval()")
        self.assertEqual(error.sqlstate, "55000")

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


class PasswordTests(BlackBoxTestCase):
    """A password that was right once makes no other right."""

    def setUp(self) -> None:
        """Have a proxyd that asks for passwords."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(asking(self.database)))

    def refused(self, user: str, password: str) -> str:
        """The SQLSTATE with which a login is refused."""
        error = self.assertRaises(ServerError, self.proxy.session, user, DATABASE, password)
        self.assertEqual(error.fields["S"], "FATAL")
        return error.sqlstate

    def login(self, user: str, password: str) -> None:
        """A login that must succeed, and whose session runs as the service user."""
        with self.proxy.session(user, DATABASE, password) as client:
            self.assertEqual(client.value("SELECT current_user"), SERVICE)
            client.leave()

    def test_wrong_after_right(self) -> None:
        """Another password for a user whose right one is remembered is refused (37)."""
        right = self.database.passwords[CLIENT]
        self.login(CLIENT, right)
        near = (right[:-1], right + "x", right.swapcase(), right.encode().hex())
        for wrong in near:
            self.assertEqual(self.refused(CLIENT, wrong), "28P01")
            self.login(CLIENT, right)
        self.assertEqual(self.refused(OTHER_CLIENT, right), "28P01")

    def test_wrong_beside_right(self) -> None:
        """The same when both come at one time (37)."""
        right = self.database.passwords[OTHER_CLIENT]
        outcomes: list[tuple[bool, bool]] = []

        def attempt(good: bool) -> None:
            try:
                with self.proxy.session(OTHER_CLIENT, DATABASE, right if good else "wrong"):
                    outcomes.append((good, True))
            except (ServerError, Hangup):
                outcomes.append((good, False))

        threads = [threading.Thread(target=attempt, args=(n % 2 == 0,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(len(outcomes), 12)
        self.assertEqual([got_in for good, got_in in outcomes if not good], [False] * 6)
        self.assertIn((True, True), outcomes)

    def test_changed_password(self) -> None:
        """A password changed on the server is refused once it is no more remembered (37)."""
        with self.database.admin() as admin:
            admin.query("DROP ROLE IF EXISTS carol; CREATE ROLE carol LOGIN PASSWORD 'first'")
            self.login("carol", "first")
            admin.query("ALTER ROLE carol PASSWORD 'second'")
            self.login("carol", "second")

            def old_refused() -> bool:
                try:
                    self.proxy.session("carol", DATABASE, "first").close()
                except ServerError as error:
                    return error.sqlstate == "28P01"
                return False

            wait_until(old_refused, 30, "the old password to be forgotten")

    def test_no_secret_in_the_log(self) -> None:
        """No password is in the log, right or wrong (39)."""
        self.login(CLIENT, self.database.passwords[CLIENT])
        self.refused(CLIENT, "secret-and-wrong")
        log = self.proxy.log_text()
        for secret in ("secret-and-wrong", *self.database.passwords.values()):
            self.assertNotIn(secret, log)


def sqlstate(client: WireClient) -> str:
    """The code of the error that an answer ends with; empty where it has none."""
    errors = [message for message in client.read_until("Z") if message.kind == "E"]
    return errors[-1].fields()["C"] if errors else ""


def single(database: Database) -> str:
    """One server connection, for clients that need no password."""
    connection = open_service(
        database, max_open_connections=1, min_idle_connections=1, acquire_timeout="20s"
    )
    return configuration({"default": connection})


def asking(database: Database) -> str:
    """Clients are asked for the password they have on the server."""
    return configuration({"default": service(database)})
