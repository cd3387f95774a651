"""Tests for L{proxyd.postgres.client_session}: a session to its end, by real sockets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxyd.config.model import Connection, Log
from proxyd.config.secrets import Secret
from proxyd.net.end import End
from proxyd.postgres.client_session import ClientSession, State
from proxyd.postgres.directory import Directory
from proxyd.postgres.pool import Pool
from proxyd.postgres.settings import Settings
from proxyd.target import Target
from tests.postgres.client import Client, until
from tests.postgres.fakeserver import Backend, complete, error, ready, row
from tests.postgres.scene import ANN, SceneTestCase, pair
from tests.support import pgbytes
from tests.support.database import CLIENT, DATABASE, SERVICE, shared_database


class SessionTestCase(SceneTestCase):
    """A listener that trusts loopback."""

    def begin(self, **changes: Any) -> None:
        """Listen, with a connection of these settings."""
        self.listen(self.trusting(**changes))

    def trusting(self, **changes: Any) -> Connection:
        """A connection that loopback may use without a password."""
        return self.connection(auth=("trust",), **changes)

    async def begin_warm(self, **changes: Any) -> None:
        """The same, with a pool that has learnt its parameters: no server is needed to come in."""
        self.begin(**changes)
        client = await self.entered()
        client.send(pgbytes.TERMINATE)
        await self.ended(client)
        await self.at_peace()

    @property
    def pool_here(self) -> Pool:
        """The one pool."""
        (pool,) = self.pools
        return pool

    async def asked(self, client: Client, said: str) -> str:
        """The trace of a Query's answer."""
        client.send(pgbytes.query(said))
        return await client.trace()

    async def busy(self) -> Client:
        """A client that holds a server, in a transaction."""
        client = await self.entered()
        self.assertEqual(await self.asked(client, "BEGIN"), "CZ")
        return client

    async def working(self, said: bytes = b"") -> tuple[Client, Backend]:
        """A client whose statement runs, and the server that runs it."""
        client = await self.entered()
        client.send(said or pgbytes.query("SLEEP"))
        await until(lambda: any(b.working for b in self.fake.backends), "the statement")
        (backend,) = [backend for backend in self.fake.backends if backend.working]
        return client, backend

    async def cancel(self, client: Client, key: bytes | None = None) -> None:
        """Cancel what a client asked for, and wait until that is done."""
        other = await self.client()
        other.send(pgbytes.cancel(client.pid, client.key if key is None else key))
        self.assertEqual(await other.read("$"), [])

    async def at_peace(self) -> None:
        """Wait until no client is here and no server is in use."""
        assert self.listener is not None
        listener = self.listener
        await until(lambda: not listener.sessions, "the sessions to end")
        await until(lambda: not any(pool.in_use for pool in self.pools), "the leases to end")


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

    async def test_goodbye_after_statements(self) -> None:
        """What was asked before the goodbye is done, and answered; what comes after it is not."""
        self.begin()
        client = await self.entered()
        client.send(pgbytes.query("one") + pgbytes.TERMINATE + pgbytes.query("two"))
        self.assertEqual(await client.trace("$"), "TDCZ")
        await self.at_peace()
        self.assertEqual(self.fake.backends[0].queries, ["one", "DISCARD ALL"])

    async def test_half_close(self) -> None:
        """A client that sends its last byte and waits gets its answer."""
        self.begin()
        client, backend = await self.working()
        await client.finish()
        await until(lambda: self.state() is State.LEAVING, "the end to be seen")
        self.clock.advance(0.1)
        backend.working = ""
        backend.write(row("late") + complete("SELECT 1") + ready())
        self.assertTrue((await client.trace("$")).endswith("TDCZ"))
        self.assertEqual(self.fake.cancels, [])
        await self.at_peace()

    def state(self) -> State:
        """What the one session is doing."""
        assert self.listener is not None
        (session,) = self.listener.sessions
        return session.state

    async def test_vanished(self) -> None:
        """A client that is gone in the middle of its statement: it is cancelled, and reset."""
        self.begin()
        for leave in (Client.reset, Client.close):
            client, backend = await self.working()
            leave(client)
            # A FIN alone says nothing; a look whether it still reads does.
            await until(
                lambda: self.clock.advance(0.5) or not list(self.listener.sessions),  # type: ignore[union-attr]
                "the session to end",
            )
            await self.at_peace()
            self.assertEqual(self.fake.cancels[-1], backend.pid)
            self.assertEqual(backend.queries[-1], "DISCARD ALL")
        self.assertEqual(len(self.fake.startups), 1)

    async def test_vanished_in_transaction(self) -> None:
        """Its transaction is rolled back."""
        self.begin()
        client = await self.busy()
        client.reset()
        await self.at_peace()
        self.assertEqual(self.fake.backends[0].queries, ["BEGIN", "ROLLBACK", "DISCARD ALL"])

    async def test_vanished_in_copy(self) -> None:
        """A copy that was not ended by the client is failed."""
        self.begin()
        client = await self.entered()
        client.send(pgbytes.query("COPY"))
        self.assertEqual(await client.trace("G"), "G")
        client.close()
        await self.at_peace()
        kinds = [kind for kind, _ in self.fake.backends[0].said]
        self.assertIn("f", kinds)
        self.assertNotIn("c", kinds)

    async def test_vanished_in_batch(self) -> None:
        """A batch without its Sync is never committed."""
        self.begin()
        client = await self.entered()
        client.send(pgbytes.extended("INSERT") + pgbytes.FLUSH)
        self.assertEqual(await client.trace("12nC"), "12nC")
        client.close()
        await self.at_peace()
        self.assertEqual(self.fake.committed, [])
        await until(lambda: not self.fake.backends, "the server to be closed")

    async def test_broken_message(self) -> None:
        """A message that is none is 08P01 to this client; the server serves on."""
        self.begin()
        for said in (b"\x01\0\0\0\4", b"Q\0\0\0\1"):
            client = await self.entered()
            client.send(pgbytes.query("one") + said)
            self.assertEqual(await client.trace("$"), "TDCZE[08P01]")
            await self.at_peace()
        self.assertEqual(len(self.fake.startups), 1)

    async def test_lost_at_the_greeting(self) -> None:
        """A client that is lost as it is greeted leaves nothing behind."""
        listener = self.listen(self.trusting())
        settings = Settings(())
        for closed in (False, True):
            near, far = pair()
            quiet: Any = _Nobody()
            end = End(self.link, near, None, quiet, paused=True)
            session = ClientSession(listener, end, 7, ANN, "shop", self.pool_here, settings)
            listener.begun(session)
            far.close()
            if closed:
                end.abort()
            session.greet({})
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


class ServerTests(SessionTestCase):
    """What a server does to a session."""

    async def test_fatal(self) -> None:
        """A server's FATAL reaches the client once, and is the last word."""
        self.begin()
        client = await self.busy()
        self.fake.backends[0].fatal("57P01", "terminating connection")
        self.assertEqual(await client.trace("$"), "E[57P01]")
        await self.at_peace()

    async def test_dies(self) -> None:
        """A server that dies in a statement: 08006, and nothing is tried again."""
        self.begin()
        client = await self.entered()
        self.assertEqual(await self.asked(client, "DIE"), "E[08006]")
        await self.ended(client)
        await self.at_peace()
        self.assertEqual(len(self.fake.startups), 1)

    async def test_dies_in_a_row(self) -> None:
        """In the middle of a message nothing can be said: the connection breaks."""
        self.begin()
        client = await self.entered()
        client.send(pgbytes.query("HALF"))
        await until(lambda: len(client.received) > 50, "half a row")
        self.fake.backends[0].reset()
        await self.ended(client)
        self.assertNotIn(b"08006", client.received)

    async def test_speaks_nonsense(self) -> None:
        """A server that breaks the protocol is no longer believed."""
        self.begin()
        self.fake.answers["odd"] = row("x") + b"\x07nonsense"
        client = await self.entered()
        client.send(pgbytes.query("odd"))
        await self.ended(client)
        self.assertNotIn(b"nonsense", client.received)
        await until(lambda: not self.fake.backends, "the server to be closed")

    async def test_died_before_the_first_message(self) -> None:
        """A server that died while nobody used it is replaced unseen."""
        await self.begin_warm()
        client = await self.entered()
        (backend,) = self.fake.backends
        backend.fatal()
        await until(lambda: backend.over, "its end")
        self.assertEqual(await self.asked(client, "one"), "TDCZ")

    async def test_error_keeps_session(self) -> None:
        """An error of a statement's is passed on, and the session goes on."""
        self.begin()
        client = await self.entered()
        self.assertEqual(await self.asked(client, "BAD"), "E[42601]Z")
        self.assertEqual(await self.asked(client, "one"), "TDCZ")

    async def test_can_not_be_reached(self) -> None:
        """A server that is down when the first message comes is 08001."""
        await self.begin_warm()
        client = await self.entered()
        other = await self.entered()
        await self.fake.stop()
        await until(lambda: not self.pool_here.total, "the pool to notice")
        self.assertEqual(await self.asked(client, "one"), "E[08001]")
        other.send(pgbytes.query("one"))
        await until(lambda: self.pool_here.waiting, "it to wait for the next attempt")
        self.clock.advance(1.0)
        self.assertEqual(await other.trace(), "E[08001]")

    async def test_role_refused(self) -> None:
        """Where the role can't be had the statement is not run without it."""
        self.begin(identity="set_role")
        client = await self.entered(user="ann")
        self.assertEqual(await self.asked(client, "one"), "TDCZ")
        other = await self.client()
        other.start("bad", "shop")
        await until(lambda: other.received, "an answer")
        other.send(pgbytes.query("delete everything"))
        self.assertIn("E[22023]", await other.trace("$"))
        for backend in self.fake.backends:
            self.assertNotIn("delete everything", backend.queries)


class QueueTests(SessionTestCase):
    """Waiting for a server."""

    async def begin_full(self, **changes: Any) -> tuple[Client, Client]:
        """A pool of one, which somebody has; and a client that is in."""
        self.begin(max_open_connections=1, **changes)
        busy = await self.busy()
        return busy, await self.entered()

    async def waits(self, client: Client, said: bytes) -> None:
        """The client asks, and waits for a server."""
        client.send(said)
        await until(lambda: self.pool_here.waiting, "it to wait")

    async def test_in_turn(self) -> None:
        """Who waits is served when the one before is done."""
        busy, client = await self.begin_full()
        await self.waits(client, pgbytes.query("one"))
        busy.send(pgbytes.TERMINATE)
        self.assertEqual(await client.trace(), "TDCZ")

    async def test_timeout(self) -> None:
        """After acquire_timeout it is 53300, FATAL."""
        _, client = await self.begin_full(acquire_timeout=30.0)
        await self.waits(client, pgbytes.query("one"))
        self.clock.advance(31.0)
        fields = await client.words()
        self.assertEqual((fields["C"], fields["V"]), ("53300", "FATAL"))
        self.assertTrue(fields["H"])

    async def test_cancelled(self) -> None:
        """A waiting statement is cancelled with 57014, unheard by a server; the session goes on."""
        busy, client = await self.begin_full()
        await self.waits(client, pgbytes.query("one"))
        await self.cancel(client)
        self.assertEqual(await client.trace(), "E[57014]Z")
        self.assertEqual((self.pool_here.waiting, self.fake.cancels), (0, []))
        await self.waits(client, pgbytes.query("two"))
        busy.send(pgbytes.TERMINATE)
        self.assertEqual(await client.trace(), "TDCZ")
        self.assertNotIn("one", self.fake.backends[0].queries)

    async def test_cancelled_batch(self) -> None:
        """An extended batch is skipped up to its Sync, which may come later."""
        busy, client = await self.begin_full()
        await self.waits(client, pgbytes.extended("INSERT"))
        await self.cancel(client)
        self.assertEqual(await client.trace("E"), "E[57014]")
        client.send(pgbytes.extended("INSERT") + pgbytes.SYNC + pgbytes.query("two"))
        self.assertEqual(await client.trace(), "Z")
        await until(lambda: self.pool_here.waiting, "the next one to wait")
        busy.send(pgbytes.TERMINATE)
        self.assertEqual(await client.trace(), "TDCZ")
        self.assertEqual(self.fake.committed, [])

    async def test_cancelled_and_goes(self) -> None:
        """A goodbye behind the cancelled statement is one."""
        _, client = await self.begin_full()
        await self.waits(client, pgbytes.query("one") + pgbytes.TERMINATE)
        await self.cancel(client)
        self.assertEqual((await client.trace("$"))[:8], "E[57014]")

    async def test_gone(self) -> None:
        """Who is lost while waiting gives up its place."""
        _, client = await self.begin_full()
        await self.waits(client, pgbytes.query("one"))
        client.reset()
        await until(lambda: not self.pool_here.waiting, "it to give up")


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
        self.pools.serve(servers)
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
