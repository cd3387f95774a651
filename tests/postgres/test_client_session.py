"""Tests for L{proxyd.postgres.client_session}: a session to its end, by real sockets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxyd.config.model import Connection, Log
from proxyd.config.secrets import Secret
from proxyd.net.end import End
from proxyd.postgres.client_session import ClientSession
from proxyd.postgres.directory import Directory
from proxyd.postgres.leasing import State
from proxyd.postgres.pools import accounts_of
from proxyd.postgres.settings import Settings, greet
from proxyd.target import Target
from tests.postgres.client import Client, until
from tests.postgres.fakeserver import complete, error, message, ready, text
from tests.postgres.scene import ANN, pair
from tests.postgres.sessions import SessionTestCase
from tests.support import pgbytes
from tests.support.database import CLIENT, DATABASE, SERVICE, shared_database


class LifeTests(SessionTestCase):
    """From the first message to the last."""

    async def test_no_server_before_the_first_message(self) -> None:
        """Clients that only sit there hold no server."""
        self.begin()
        first = await self.entered()
        clients = [await self.entered() for _ in range(5)]
        self.assertEqual(len(self.fake.backends), 1)
        self.assertEqual(self.pool_here.clients, 6)
        first.send(pgbytes.TERMINATE)
        await self.ended(first)
        self.assertEqual(await self.asked(clients[0], "one"), "TDCZ")
        await until(lambda: self.pool_here.in_use == 1, "the lease")

    async def test_next_one_gets_it_clean(self) -> None:
        """Terminate is never passed on: the next client gets the same server, reset."""
        self.begin()
        for _ in range(3):
            client = await self.entered()
            self.assertEqual(await self.asked(client, "one"), "TDCZ")
            client.send(pgbytes.TERMINATE)
            await self.ended(client)
            await self.at_peace()
        (backend,) = self.fake.backends
        self.assertEqual(backend.queries, ["one", "DISCARD ALL"] * 3)
        self.assertEqual(self.fake.terminates, 0)

    async def test_told_again(self) -> None:
        """A client whose server reports otherwise than it was told is told so, once."""
        self.begin()
        await self.entered()
        first = await self.entered()
        self.assertEqual(first.parameters["server_version"], "15.99")
        for backend in list(self.fake.backends):
            backend.reset()
        self.fake.parameters |= {"server_version": "16.1", "in_hot_standby": "on"}
        self.assertEqual(await self.asked(first, "one"), "SSTDCZ")
        self.assertEqual(
            (first.parameters["server_version"], first.parameters["in_hot_standby"]), ("16.1", "on")
        )
        self.assertEqual(await self.asked(first, "two"), "TDCZ")

    async def test_not_told_again(self) -> None:
        """Settings of its own are no news to a client."""
        self.begin()
        await self.entered()
        client = await self.entered(application_name="psql", TimeZone="UTC", work_mem="4MB")
        self.assertEqual(await self.asked(client, "one"), "TDCZ")

    async def test_settings_on_the_server(self) -> None:
        """A client's settings are on the server before its first statement."""
        self.begin()
        await self.entered()
        client = await self.entered(application_name="psql", work_mem="4MB")
        self.assertEqual(await self.asked(client, "one"), "TDCZ")
        backend = next(b for b in self.fake.backends if "one" in b.queries)
        kinds = "".join(kind for kind, _ in backend.said)
        self.assertTrue(kinds.endswith("PBECSQ"), kinds)

    async def test_statement_in_pieces(self) -> None:
        """However the first message is cut, it is answered."""
        self.begin()
        client = await self.entered()
        whole = pgbytes.query("one")
        for at in range(len(whole)):
            client.send(whole[at : at + 1])
            await until(lambda at=at: self.received() > at, "the byte")
        self.assertEqual(await client.trace(), "TDCZ")

    def received(self) -> int:
        """Bytes that the one session received after its start-up packet."""
        assert self.listener is not None
        (session,) = self.listener.sessions
        packet = pgbytes.startup({"user": "ann", "database": "shop"})
        return session.end.received - len(packet)

    async def test_lost_at_the_greeting(self) -> None:
        """A client that is lost as it is greeted leaves nothing behind."""
        listener = self.listen(self.trusting())
        settings = Settings(())
        for closed in (False, True):
            near, far = pair()
            quiet: Any = _Nobody()
            end = End(self.link, near, None, quiet, paused=True)
            session = ClientSession(
                listener, end, 7, ANN, "192.0.2.9:4711", "shop", self.pool_here, settings
            )
            listener.begun(session)
            far.close()
            if closed:
                end.abort()
            session.greet(greet({}))
            self.assertIs(session.state, State.CLOSED)
        self.assertEqual(list(listener.sessions), [])
        self.assertEqual((self.link.ends, len(listener.keys)), (0, 0))


class _Nobody:
    """Whoever an End worked for before the session."""

    def received(self, end: End, data: bytes) -> None:
        """Bytes came."""

    def alerted(self, end: End) -> None:
        """Attention is asked for."""

    def finished(self, end: End) -> None:
        """No more is sent."""

    def gone(self, end: End, reason: str) -> None:
        """It is lost."""


class CancelTests(SessionTestCase):
    """Cancel requests."""

    async def test_running(self) -> None:
        """The statement that runs ends with the server's 57014; the session goes on."""
        self.begin()
        client, backend = await self.working()
        await self.cancel(client)
        self.assertEqual(await client.trace(), "E[57014]Z")
        self.assertEqual(self.fake.cancels, [backend.pid])
        self.assertEqual(await self.asked(client, "one"), "TDCZ")

    async def test_secure(self) -> None:
        """A request may come inside TLS."""
        self.begin()
        client, _ = await self.working()
        other = await self.client()
        await other.start_tls()
        other.send(pgbytes.cancel(client.pid, client.key))
        self.assertEqual(await client.trace(), "E[57014]Z")

    async def test_wrong_key(self) -> None:
        """A wrong key does nothing, and nothing is said."""
        self.begin()
        client, _ = await self.working()
        await self.cancel(client, bytes(byte ^ 255 for byte in client.key))
        self.assertEqual((self.fake.cancels, client.received), ([], b""))

    async def test_idle(self) -> None:
        """An idle client's request strikes nobody: not even the server it used last."""
        self.begin()
        client, _ = await self.working()
        await self.cancel(client)
        await client.read("Z")
        before = len(self.fake.cancels)
        await self.cancel(client)
        self.assertEqual(len(self.fake.cancels), before)

    async def test_gone(self) -> None:
        """A key ends with its session."""
        self.begin()
        client = await self.entered()
        client.send(pgbytes.query("one") + pgbytes.TERMINATE)
        await client.read("$")
        await self.at_peace()
        busy, _ = await self.working()
        await self.cancel(client)
        self.assertEqual((self.fake.cancels, busy.received), ([], b""))

    async def test_no_server_key(self) -> None:
        """Where the server gave no key requests end at once, one after the other."""
        self.fake.keys = False
        self.begin()
        client, backend = await self.working()
        for _ in range(3):
            await self.cancel(client)
        backend.wake(complete("SELECT 1"))
        self.assertEqual(await client.trace(), "CZ")


class EndTests(SessionTestCase):
    """Sessions ended from outside."""

    async def test_drain(self) -> None:
        """Idle ones go at once with 57P01, a transaction when it is done, who waits at once."""
        self.begin(max_open_connections=1)
        busy = await self.busy()
        idle = await self.entered()
        waiting = await self.entered()
        waiting.send(pgbytes.query("one"))
        await until(lambda: self.pool_here.waiting, "it to wait")
        assert self.listener is not None
        drained = self.listener.drain()
        self.assertEqual(await idle.trace("$"), "E[57P01]")
        self.assertEqual(await waiting.trace("$"), "E[57P01]")
        self.assertEqual(await self.asked(busy, "one"), "TDCZ")
        self.assertFalse(drained.called)
        self.assertEqual(await self.asked(busy, "COMMIT"), "CZ")
        self.assertEqual(await busy.trace("$"), "E[57P01]")
        await drained

    async def test_drain_while_let_in(self) -> None:
        """Who waits for a server to be let in is sent away too."""
        self.begin(max_open_connections=1)
        await self.busy()
        client = await self.client()
        client.start("ann", "shop", work_mem="4MB")
        await until(lambda: self.pool_here.waiting, "it to wait")
        assert self.listener is not None
        self.listener.drain()
        self.assertEqual(await client.trace("$"), "E[57P01]")

    async def test_drain_in_statement(self) -> None:
        """A statement that runs is finished and answered first."""
        self.begin()
        client, backend = await self.working()
        assert self.listener is not None
        drained = self.listener.drain()
        backend.wake(complete("SELECT 1"))
        self.assertEqual(await client.trace("$"), "CZE[57P01]")
        await drained

    async def test_drain_within_a_notification(self) -> None:
        """A client at rest that has had half a notification gets the rest, and goes then."""
        self.begin()
        client = await self.entered()
        self.assertEqual(await self.asked(client, "one"), "TDCZ")
        (backend,) = self.fake.backends
        news = message(b"A", b"\0\0\0\1" + text("news") + text("it rains"))
        backend.write(news[:7])
        self.assertEqual(await client.bytes(7), news[:7])
        assert self.listener is not None
        drained = self.listener.drain()
        self.assertFalse(drained.called)
        backend.write(news[7:])
        self.assertEqual(await client.bytes(len(news) - 7), news[7:])
        self.assertEqual(await client.trace("$"), "E[57P01]")
        await drained

    async def test_kill(self) -> None:
        """A session is killed whatever it is doing; its statement is stopped."""
        self.begin()
        client, backend = await self.working()
        self.session().kill("an operator said so")
        self.assertEqual(await client.trace("$"), "E[57P01]")
        await self.at_peace()
        self.assertEqual(self.fake.cancels, [backend.pid])

    def session(self) -> ClientSession:
        """The one session."""
        assert self.listener is not None
        (session,) = self.listener.sessions
        return session

    async def test_kill_in_message(self) -> None:
        """In the middle of an answer nothing can be said: the connection breaks."""
        self.begin()
        client = await self.entered()
        client.send(pgbytes.query("HALF"))
        await until(lambda: len(client.received) > 50, "half a row")
        self.session().kill("an operator said so")
        await self.ended(client)
        self.assertNotIn(b"57P01", client.received)
        # The half row never ends: the server is given up in time.
        await until(lambda: self.clock.advance(0.1) or not self.fake.backends, "the server's end")


class ReloadTests(SessionTestCase):
    """A configuration that changes under sessions."""

    async def reload(self, *connections: Connection) -> None:
        """Use these connections from now on."""
        assert self.listener is not None
        servers = {one.name: self.server(one) for one in connections}
        self.pools.serve(servers, accounts_of(servers))
        self.listener.adopt(self.listener.settings, Log(), None, Directory(servers))

    async def test_idle_session(self) -> None:
        """A session without a server leases from the new pool; counts and leases are that one's."""
        await self.begin_warm()
        client = await self.entered()
        await self.reload(self.trusting(max_open_connections=2))
        self.assertEqual(await self.asked(client, "one"), "TDCZ")
        pool = self.pool_here
        self.assertEqual((pool.settings.max_open_connections, pool.in_use, pool.clients), (2, 1, 1))
        client.send(pgbytes.TERMINATE)
        await self.at_peace()
        self.assertEqual((pool.idle, pool.clients), (1, 0))

    async def test_waiting_session(self) -> None:
        """One that waits goes over, and gives its server back where it belongs."""
        self.begin(max_open_connections=1)
        busy = await self.busy()
        client = await self.entered()
        client.send(pgbytes.query("one"))
        await until(lambda: self.pool_here.waiting, "it to wait")
        await self.reload(self.trusting(max_open_connections=2))
        self.assertEqual(await client.trace(), "TDCZ")
        self.assertEqual(await self.asked(busy, "COMMIT"), "CZ")
        client.send(pgbytes.TERMINATE)
        busy.send(pgbytes.TERMINATE)
        await self.at_peace()
        await until(lambda: len(self.fake.backends) == 1, "the old server to go")
        self.assertEqual((self.pool_here.total, self.pool_here.idle), (1, 1))

    async def test_removed(self) -> None:
        """A session whose connection is gone ends when it wants a server: 57P01."""
        await self.begin_warm()
        client = await self.entered()
        await self.reload()
        self.assertEqual(await self.asked(client, "one"), "E[57P01]")


class LogTests(SessionTestCase):
    """What is told of a session."""

    async def test_end(self) -> None:
        """One line at the end: who, what, how much, how long, why."""
        self.begin()
        client = await self.entered()
        await self.asked(client, "one")
        self.clock.advance(12.0)
        client.send(pgbytes.TERMINATE)
        await self.ended(client)
        await self.at_peace()
        (line,) = [line for line in self.logged() if "ended after" in line]
        for part in ("[127.0.0.1", "[ann]", "shop", "12.0 s", "bytes in", "goodbye"):
            self.assertIn(part, line)

    async def test_statements(self) -> None:
        """Statements are logged only where that was asked for, passwords masked."""
        for statements in ("off", "on"):
            if self.listener is None:
                self.begin()
            assert self.listener is not None
            self.listener.use_log(Log(statements=statements))
            client = await self.entered()
            await self.asked(client, "ALTER ROLE a PASSWORD 'hush'")
            client.send(pgbytes.extended("select $1 /* two */") + pgbytes.SYNC)
            await client.read("Z")
            found = [line for line in self.logged() if "QUERY" in line or "PARSE" in line]
            self.assertEqual(len(found), 2 if statements == "on" else 0)
        self.assert_never_told("hush")

    async def test_bug(self) -> None:
        """A bug of ours in one session ends that session and its server, and no other."""
        self.begin()
        other = await self.busy()
        client = await self.entered()
        self.assertEqual(await self.asked(client, "one"), "TDCZ")
        assert self.listener is not None
        session = max(self.listener.sessions, key=lambda one: one.number)
        assert session._lease is not None
        session._lease.flow._on_error = lambda body: 1 / 0  # type: ignore[assignment]
        client.send(pgbytes.query("BAD"))
        await self.ended(client)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.assertEqual(await self.asked(other, "one"), "TDCZ")
        # The server of the failed session may serve nobody else.
        await until(
            lambda: self.clock.advance(0.1) or len(self.fake.backends) == 1, "its server's end"
        )


class OddErrorTests(SessionTestCase):
    """Errors that lack something."""

    async def test_error_response_without_code(self) -> None:
        """An ErrorResponse without an SQLSTATE is passed on as it is."""
        self.begin()
        self.fake.answers["odd"] = error(None, "something") + ready()
        client = await self.entered()
        client.send(pgbytes.query("odd"))
        messages = await client.read("Z")
        self.assertEqual(messages[0].fields().get("M"), "something")


class RealTests(SessionTestCase):
    """With a real PostgreSQL behind, where a script could be wrong about it."""

    async def begin_real(self, **changes: Any) -> None:
        """Listen, with the shared server behind."""
        self.real = shared_database()
        dsn = replace(
            self.connection().dsn,
            hosts=(Target(self.real.host, self.real.port),),
            user=SERVICE,
            database=DATABASE,
            sslmode="require",
        )
        password = Secret(self.real.passwords[SERVICE], literal=True)
        self.listen(self.connection(dsn=dsn, password=password, **changes))

    async def shopper(self, password: str = "") -> Client:
        """A client that logged in with its own password."""
        return await self.entered(CLIENT, "shop", password or self.real.passwords[CLIENT])

    async def value(self, client: Client, sql: str) -> str | None:
        """The one value that a statement gives."""
        client.send(pgbytes.query(sql))
        (value,) = [m.columns()[0] for m in await client.read("Z") if m.kind == "D"]
        return value

    async def test_login(self) -> None:
        """The server's own passwords count, and its statements run as the service user."""
        await self.begin_real()
        client = await self.shopper()
        self.assertEqual(await self.value(client, "SELECT current_user"), SERVICE)
        self.assertEqual(await self.value(client, "SHOW application_name"), f"{CLIENT}|")
        wrong = await self.client()
        wrong.start(CLIENT, "shop")
        await wrong.bytes(9)
        wrong.password("wrong")
        self.assertEqual((await wrong.words())["C"], "28P01")

    async def test_left_clean(self) -> None:
        """Nothing of a session is left to the next one on the same server."""
        await self.begin_real(max_open_connections=1)
        client = await self.shopper()
        pid = await self.value(client, "SELECT pg_backend_pid()")
        for said in (
            "CREATE TEMP TABLE secret AS SELECT 1",
            "SET work_mem = '1MB'",
            "PREPARE mine AS SELECT 1",
            "SELECT pg_advisory_lock(7)",
            "LISTEN mine",
            "BEGIN; CREATE TABLE never_there (id int)",
        ):
            client.send(pgbytes.query(said))
            await client.read("Z")
        client.close()
        await self.at_peace()
        other = await self.shopper()
        self.assertEqual(await self.value(other, "SELECT pg_backend_pid()"), pid)
        left = (
            "SELECT (SELECT count(*) FROM pg_prepared_statements)"
            " + (SELECT count(*) FROM pg_listening_channels())"
            " + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"
            " + (SELECT count(*) FROM pg_class WHERE relname IN ('secret', 'never_there'))"
        )
        self.assertEqual(await self.value(other, left), "0")
        self.assertNotEqual(await self.value(other, "SHOW work_mem"), "1MB")

    async def test_cancel(self) -> None:
        """A statement is cancelled; and one whose client is gone does not run on."""
        await self.begin_real(max_open_connections=1)
        client = await self.shopper()
        client.send(pgbytes.query("SELECT pg_sleep(60)"))
        await until(lambda: self.pool_here.in_use, "the lease")
        assert self.listener is not None
        (session,) = self.listener.sessions
        await until(lambda: session._lease and session._lease.busy, "the statement")
        await self.cancel(client)
        self.assertTrue((await client.trace()).endswith("E[57014]Z"))
        client.send(pgbytes.query("SELECT pg_sleep(60)"))
        await until(lambda: session._lease and session._lease.busy, "the statement")
        client.reset()
        await self.at_peace()
        other = await self.shopper()
        running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%'"
        idle = running + " AND state = 'active' AND pid <> pg_backend_pid()"
        self.assertEqual(await self.value(other, idle), "0")
        self.assertEqual(self.pool_here.counters.reset_failures, 0)

    async def test_killed_server(self) -> None:
        """A server process that is ended while idle is replaced unseen."""
        await self.begin_real(max_open_connections=1)
        client = await self.shopper()
        pid = await self.value(client, "SELECT pg_backend_pid()")
        client.send(pgbytes.TERMINATE)
        await self.at_peace()
        other = await self.shopper()
        self.real.cluster.psql(f"SELECT pg_terminate_backend({pid}, 5000)")
        self.assertNotEqual(await self.value(other, "SELECT pg_backend_pid()"), pid)
