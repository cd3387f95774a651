"""
Tests for L{proxyd.postgres.lease}: how a client left by what the server does.

Each ends with the server connection either reset and verified, or closed; and
on no doubt does it serve anybody else.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from proxyd.config.model import Connection
from proxyd.net.end import End
from proxyd.net.relay import join
from proxyd.postgres.lease import Lease
from proxyd.postgres.pool import Pool
from proxyd.postgres.settings import settings_request
from proxyd.wire.pg import messages
from tests.postgres.client import until
from tests.postgres.fakeserver import (
    SET_CONFIG,
    Backend,
    complete,
    error,
    message,
    ready,
    row,
    text,
    values_of,
)
from tests.postgres.scene import ANN, SERVICE, SceneTestCase, pair
from tests.support import pgbytes

RESET = ["DISCARD ALL"]
ROLLED_BACK = ["ROLLBACK", "DISCARD ALL"]


class Watcher:
    """Whoever two joined Ends report to: nobody, in these tests."""

    def received(self, end: End, data: bytes) -> None:
        """Bytes came."""

    def alerted(self, end: End) -> None:
        """The flow asks for attention."""

    def finished(self, end: End) -> None:
        """One sends no more."""

    def gone(self, end: End, reason: str) -> None:
        """One is lost."""


class Errors:
    """Hears the errors of a server, and can be asked whether it is still there."""

    def __call__(self, body: bytes) -> None:
        """An error."""


class LeaseTestCase(SceneTestCase):
    """A client by a socket pair, joined to a leased server connection."""

    async def begin(self, connection: Connection | None = None) -> None:
        """Lease a connection, and join a client to it."""
        self.shop: Pool = self.pool(connection)
        server = await self.shop.acquire()
        self.errors: list[bytes] = []
        self.lease = Lease(self.shop, server, self.clock, self.errors.append, None)
        self.behind: Backend = await self.backend()
        self.watcher = Watcher()
        near, self.far = pair()
        self.near = End(self.link, near, None, self.watcher)
        self.addCleanup(self.far.close)
        flow = self.lease.flow
        join(self.near, server.end, self.watcher, flow, (flow.client, flow.server))

    async def say(self, data: bytes, answers: int | None = None) -> None:
        """
        The client sends; wait until the server has it.

        @param answers: how many ReadyForQuery are there when it was answered;
            None: don't wait for answers
        """
        before = self.near.received
        self.far.sendall(data)
        await until(lambda: self.near.received == before + len(data), "the client's bytes")
        if answers is not None:
            await until(lambda: self.lease.flow.ready_count >= answers, "the answers")

    async def heard(self, last: str) -> None:
        """Wait until the server has a Query of this text."""
        await until(lambda: last in self.behind.queries, f"the server to hear {last}")

    def leave(self) -> Deferred[str]:
        """The client goes; what becomes of the server connection."""
        server = self.lease.server
        self.near.part(self.watcher)
        if not server.end.closed:
            server.end.talk(server.conversation)
        self.near.abort()
        finished: Deferred[str] = Deferred()
        self.lease.finish(lambda lease, reason: finished.callback(reason))
        return finished

    async def reused(self, leaving: Deferred[str], reset: list[str]) -> None:
        """It went back, after this was said; and it is what the next one gets."""
        self.assertEqual(await leaving, "")
        self.assertEqual(self.behind.queries[-len(reset) :], reset)
        self.assertEqual((self.shop.idle, self.shop.in_use), (1, 0))
        self.assertIs(await self.shop.acquire(), self.lease.server)

    async def closed(self, leaving: Deferred[str], *words: str) -> None:
        """It was closed, for this reason; the next one gets another."""
        reason = await leaving
        for word in words:
            self.assertIn(word, reason)
        self.assertTrue(self.lease.server.end.closed)
        self.assertEqual(self.shop.total, 0)
        await until(lambda: self.behind.over, "the server to see it")
        other = await self.shop.acquire()
        self.assertIsNot(other, self.lease.server)


class LeftInOrderTests(LeaseTestCase):
    """What a client may leave behind, on a server that answers as it should."""

    async def test_idle(self) -> None:
        """A server nobody asked anything is reset all the same."""
        await self.begin()
        await self.reused(self.leave(), RESET)

    async def test_answered(self) -> None:
        """After an answered query only the reset is needed; no cancel is sent."""
        await self.begin()
        await self.say(pgbytes.query("one"), 1)
        await self.reused(self.leave(), RESET)
        self.assertEqual(self.fake.cancels, [])

    async def test_in_query(self) -> None:
        """A running statement is cancelled, its answer read, and the server reset."""
        await self.begin()
        await self.say(pgbytes.query("SLEEP"))
        await until(lambda: self.behind.working, "the statement to run")
        await self.reused(self.leave(), RESET)
        self.assertEqual(self.fake.cancels, [self.behind.pid])

    async def test_in_transaction(self) -> None:
        """An open transaction is rolled back, never committed."""
        await self.begin()
        await self.say(pgbytes.query("BEGIN"), 1)
        await self.reused(self.leave(), ROLLED_BACK)
        self.assertNotIn("COMMIT", self.behind.queries)

    async def test_in_failed_transaction(self) -> None:
        """A failed transaction is rolled back."""
        await self.begin()
        await self.say(pgbytes.query("BEGIN") + pgbytes.query("BAD"), 2)
        self.assertEqual(self.lease.flow.status, ord("E"))
        await self.reused(self.leave(), ROLLED_BACK)

    async def test_in_query_in_transaction(self) -> None:
        """Both: cancelled, read out, rolled back."""
        await self.begin()
        await self.say(pgbytes.query("BEGIN"), 1)
        await self.say(pgbytes.query("SLEEP"))
        await until(lambda: self.behind.working, "the statement to run")
        await self.reused(self.leave(), ROLLED_BACK)

    async def test_in_copy(self) -> None:
        """A COPY IN that nobody feeds any more is failed, never completed."""
        await self.begin()
        await self.say(pgbytes.query("COPY"))
        await until(lambda: self.lease.flow.copying, "the copy to begin")
        await self.say(pgbytes.copy_data(b"a row\n"))
        await self.reused(self.leave(), RESET)
        kinds = [kind for kind, _ in self.behind.said]
        self.assertIn("f", kinds)
        self.assertNotIn("c", kinds)

    async def test_in_copy_in_transaction(self) -> None:
        """The same in a transaction, which is rolled back."""
        await self.begin()
        await self.say(pgbytes.query("BEGIN"), 1)
        await self.say(pgbytes.query("COPY"))
        await until(lambda: self.lease.flow.copying, "the copy to begin")
        await self.reused(self.leave(), ROLLED_BACK)

    async def test_in_copy_out(self) -> None:
        """A COPY OUT is cancelled, and what it had still to say is thrown away."""
        await self.begin()
        await self.say(pgbytes.query("COPY OUT"))
        await until(lambda: self.behind.working, "the copy to begin")
        await self.reused(self.leave(), RESET)

    async def test_pipelined(self) -> None:
        """All that was asked ahead is answered before the reset is said."""
        await self.begin()
        await self.say(pgbytes.query("BEGIN") + pgbytes.query("SLEEP"))
        await until(lambda: self.behind.working, "the statement to run")
        await self.reused(self.leave(), ROLLED_BACK)

    async def test_synced_batch(self) -> None:
        """A synced batch is committed by the client itself: the server is reset."""
        await self.begin()
        await self.say(pgbytes.extended("INSERT") + pgbytes.SYNC, 1)
        await self.reused(self.leave(), RESET)
        self.assertEqual(self.fake.committed, ["INSERT"])

    async def test_header_not_complete(self) -> None:
        """The start of a header was never sent on: nothing is half sent."""
        await self.begin()
        await self.say(pgbytes.query("one") + b"Q\0\0", 1)
        await self.reused(self.leave(), RESET)

    async def test_parameters(self) -> None:
        """What the reset itself reports belongs to nobody, and is known for the next one."""
        self.fake.answers["DISCARD ALL"] = (
            message(b"S", text("application_name") + text("reset"))
            + complete("DISCARD ALL")
            + ready()
        )
        await self.begin()
        await self.reused(self.leave(), RESET)
        self.assertEqual(self.lease.server.parameters["application_name"], "reset")


class ForgottenTests(LeaseTestCase):
    """What was made for a session is gone with it."""

    async def test_without_the_collector(self) -> None:
        """A lease that is over holds nobody, and nobody holds it: no garbage is left."""
        self.addCleanup(gc.enable)
        gc.disable()
        pool = self.pool(None)
        heard: dict[int, str] = {}
        for end in range(2):
            errors = Errors()
            kept = weakref.ref(errors)
            lease = Lease(pool, await pool.acquire(), self.clock, errors, None)
            finished: Deferred[str] = Deferred()
            if end:
                lease.server.end.abort()
            lease.finish(lambda lease, reason, done=finished: done.callback(reason))  # type: ignore[misc]
            heard[end] = await finished
            del errors, lease
            await until(lambda kept=kept: kept() is None, "the lease to be forgotten")
        self.assertEqual(heard, {0: "", 1: "it was lost"})


class LeftInDoubtTests(LeaseTestCase):
    """What can't be put in order closes the server."""

    async def test_batch_open(self) -> None:
        """A batch without its Sync is never committed: no Sync of ours may end it."""
        await self.begin()
        await self.say(pgbytes.extended("INSERT"))
        await until(lambda: "E" in [kind for kind, _ in self.behind.said], "the batch")
        await self.closed(self.leave(), "batch")
        self.assertEqual(self.fake.committed, [])
        self.assertNotIn("S", [kind for kind, _ in self.behind.said])

    async def test_batch_open_and_working(self) -> None:
        """A statement in such a batch is stopped, too."""
        await self.begin()
        await self.say(pgbytes.extended("SLEEP") + pgbytes.FLUSH)
        await until(lambda: self.behind.working, "the statement to run")
        await self.closed(self.leave(), "batch")
        self.assertEqual(self.fake.cancels, [self.behind.pid])

    async def test_half_a_message(self) -> None:
        """Half a message can't be taken back."""
        await self.begin()
        await self.say(pgbytes.query("one" * 100)[:50])
        await self.closed(self.leave(), "half sent")

    async def test_half_a_message_behind_a_statement(self) -> None:
        """The statement before it is stopped all the same."""
        await self.begin()
        await self.say(pgbytes.query("SLEEP"))
        await until(lambda: self.behind.working, "the statement to run")
        await self.say(pgbytes.query("one" * 100)[:50])
        await self.closed(self.leave(), "half sent")
        self.assertEqual(self.fake.cancels, [self.behind.pid])

    async def test_half_a_copy_row(self) -> None:
        """Half a row of a COPY neither."""
        await self.begin()
        await self.say(pgbytes.query("COPY"))
        await until(lambda: self.lease.flow.copying, "the copy to begin")
        await self.say(pgbytes.copy_data(bytes(100))[:50])
        await self.closed(self.leave(), "half sent")

    async def test_extra_ready(self) -> None:
        """A server that answers more than it was asked is not understood."""
        self.fake.answers["odd"] = row("x") + complete("SELECT 1") + ready() + ready()
        await self.begin()
        await self.say(pgbytes.query("odd"), 2)
        await self.closed(self.leave(), "nobody was owed")

    async def test_broken_protocol(self) -> None:
        """A server that speaks nonsense is not used again."""
        self.fake.answers["odd"] = b"\x07nonsense"
        await self.begin()
        await self.say(pgbytes.query("odd"))
        await until(lambda: self.lease.flow.server.stopped, "the nonsense")
        await self.closed(self.leave(), "protocol")

    async def test_reset_close(self) -> None:
        """With reset: close no server serves twice, and nothing is counted as failed."""
        await self.begin(self.connection(reset="close"))
        await self.say(pgbytes.query("one"), 1)
        await self.closed(self.leave(), "reset: close")
        self.assertEqual(self.shop.counters.reset_failures, 0)
        self.assertEqual(self.fake.terminates, 1)
        self.assertEqual(self.behind.queries, ["one"])


class ServerFailsTests(LeaseTestCase):
    """What a server may do while it is put in order."""

    async def closed_by(self, answer: Callable[[Backend], None] | bytes, *words: str) -> None:
        """A DISCARD ALL answered so closes the server."""
        self.fake.answers["DISCARD ALL"] = answer
        await self.begin()
        await self.say(pgbytes.query("one"), 1)
        await self.closed(self.leave(), *words)
        self.assertEqual(self.shop.counters.reset_failures, 1)

    async def test_reset_fails(self) -> None:
        """A reset answered by an error closes it."""
        await self.closed_by(error("25001", "not in a transaction") + ready(), "25001")

    async def test_reset_without_code(self) -> None:
        """An error without an SQLSTATE is an error all the same."""
        await self.closed_by(error(None, "something") + ready(), "something")

    async def test_reset_with_rows(self) -> None:
        """A reset answered with more than it should be closes it."""
        await self.closed_by(row("x") + complete("DISCARD ALL") + ready(), "DISCARD ALL")

    async def test_reset_with_other_words(self) -> None:
        """Another tag, another status, a second answer: each closes it."""
        await self.closed_by(complete("DISCARD") + ready(), "DISCARD ALL")

    async def test_reset_in_transaction(self) -> None:
        """A server that is in a transaction after the reset is closed."""
        await self.closed_by(complete("DISCARD ALL") + ready("T"), "DISCARD ALL")

    async def test_reset_twice(self) -> None:
        """A second answer closes it."""
        answer = complete("DISCARD ALL") + ready()
        await self.closed_by(answer + answer, "more than it was asked")

    async def test_reset_notifies(self) -> None:
        """A notification that comes with the reset was meant for the one who left."""
        said = message(b"A", bytes(4) + text("channel") + text("payload"))
        await self.closed_by(said + complete("DISCARD ALL") + ready(), "notification")

    async def test_reset_malformed(self) -> None:
        """Nonsense closes it."""
        await self.closed_by(b"Z\0\0\0\1", "length")

    async def test_dies_in_reset(self) -> None:
        """A server that dies is discarded."""
        await self.closed_by(lambda backend: backend.reset())

    async def test_fatal_in_reset(self) -> None:
        """A server that ends us in the middle is discarded."""
        await self.closed_by(lambda backend: backend.fatal())

    async def hangs(self, leaving: Deferred[str], heard: Callable[[], Any]) -> None:
        """It does not answer: after connect_timeout it is closed, and not before."""
        await until(heard, "the server to be asked")
        self.clock.advance(9.0)
        self.assertNoResult(leaving)
        self.assertEqual(self.shop.in_use, 1)
        self.clock.advance(1.5)
        await self.closed(leaving, "in time")

    def assertNoResult(self, waiting: Deferred[Any]) -> None:
        """It has not fired."""
        self.assertFalse(waiting.called)

    async def test_reset_hangs(self) -> None:
        """A reset that is never answered closes it."""
        self.fake.answers["DISCARD ALL"] = lambda backend: None
        await self.begin()
        await self.hangs(self.leave(), lambda: "DISCARD ALL" in self.behind.queries)

    async def test_query_hangs(self) -> None:
        """A statement that can't be cancelled closes it."""
        await self.begin()
        await self.say(pgbytes.query("HANG"))
        await until(lambda: self.behind.working, "the statement to run")
        leaving = self.leave()
        await until(lambda: self.fake.cancels, "the cancel request")
        await until(lambda: self.fake.open == 1, "the cancel request to end")
        await self.hangs(leaving, lambda: not self.lease._cancelling)
        self.assertNotIn("DISCARD ALL", self.behind.queries)

    async def test_rollback_fails(self) -> None:
        """A ROLLBACK that is not one closes it."""
        self.fake.answers["ROLLBACK"] = complete("COMMIT") + ready()
        await self.begin()
        await self.say(pgbytes.query("BEGIN"), 1)
        await self.closed(self.leave(), "ROLLBACK")

    async def test_dies_in_query(self) -> None:
        """A server that died under the client is discarded."""
        await self.begin()
        await self.say(pgbytes.query("DIE"))
        await until(lambda: self.lease.server.end.closed, "the loss")
        await self.closed(self.leave(), "lost")
        self.assertEqual(self.fake.cancels, [])

    async def test_half_an_answer(self) -> None:
        """An answer whose end never comes closes it."""
        await self.begin()
        await self.say(pgbytes.query("HALF"))
        await until(lambda: not self.lease.flow.server.at_border, "half a row")
        leaving = self.leave()
        await until(lambda: self.fake.cancels, "the cancel request")
        await until(lambda: self.fake.open == 1, "the cancel request to end")
        await self.hangs(leaving, lambda: not self.lease._cancelling)


class CancelTests(LeaseTestCase):
    """Cancel requests, and what they hold up."""

    async def sleeping(self, connection: Connection | None = None) -> None:
        """A statement runs."""
        await self.begin(connection)
        await self.say(pgbytes.query("SLEEP"))
        await until(lambda: self.behind.working, "the statement to run")

    async def test_idle(self) -> None:
        """A server that works on nothing is not asked."""
        await self.begin()
        await self.say(pgbytes.query("one"), 1)
        await self.lease.cancel()
        self.assertEqual(self.fake.cancels, [])

    async def test_joined(self) -> None:
        """Requests that come while one is under way join it."""
        self.fake.hold_cancels = True
        await self.sleeping()
        first, second = self.lease.cancel(), self.lease.cancel()
        await until(lambda: self.fake.held, "the request")
        self.assertFalse(first.called or second.called)
        self.fake.let_cancels_go()
        await first
        await second
        self.assertEqual(len(self.fake.cancels), 1)

    async def test_holds_up_the_next_one(self) -> None:
        """Nobody gets a server while a cancel for the one before is on its way."""
        self.fake.hold_cancels = True
        await self.sleeping()
        cancelling = self.lease.cancel()
        await until(lambda: self.fake.held, "the request")
        self.behind.wake(complete("SELECT 1"))
        await until(lambda: self.lease.flow.answered, "the answer")
        leaving = self.leave()
        # Whatever was sent to the server meanwhile has arrived before this login is over.
        (await self.server().login(SERVICE, "shop", {}, ANN)).abort()
        waiting = self.shop.acquire()
        self.assertFalse(leaving.called)
        self.assertEqual(self.shop.in_use, 1)
        self.assertNotIn("DISCARD ALL", self.behind.queries)
        self.fake.let_cancels_go()
        await cancelling
        self.assertEqual(await leaving, "")
        self.shop.give_back(await waiting)

    async def test_can_not_be_asked(self) -> None:
        """A request that can't be made leaves a doubt: the server is closed."""
        await self.sleeping()
        self.fake.hold_cancels = True
        cancelling = self.lease.cancel()
        await until(lambda: self.fake.held, "the request")
        self.clock.advance(10.5)
        await cancelling
        self.fake.hold_cancels = False
        await self.closed(self.leave(), "cancel")

    async def test_no_key(self) -> None:
        """A server that gave no key can't be asked: each request is done at once, none hangs."""
        self.fake.keys = False
        await self.sleeping()
        for _ in range(3):
            self.assertTrue(self.lease.cancel().called)
        await self.closed(self.leave(), "cancel")
        self.assertEqual(self.fake.cancels, [])

    async def test_late(self) -> None:
        """A cancel that only strikes in the reset closes the server; nobody else is struck."""
        await self.begin()
        self.fake.answers["DISCARD ALL"] = error("57014", "canceling statement") + ready()
        await self.closed(self.leave(), "57014")


class NoteTests(LeaseTestCase):
    """What is learnt on the way."""

    async def test_errors(self) -> None:
        """Each ErrorResponse is handed on for the log."""
        await self.begin()
        await self.say(pgbytes.query("BAD") + pgbytes.query("BAD"), 2)
        self.assertEqual(len(self.errors), 2)
        await self.reused(self.leave(), RESET)

    async def test_prepared(self) -> None:
        """A client's settings are bound values of set_config, whatever is in them."""
        await self.begin()
        nasty = "'; DROP TABLE x; --"
        server = self.lease.server
        server.end.part(server.conversation)
        await server.run(settings_request((("search_path", nasty), ("work_mem", "4MB"))))
        parse = next(body for kind, body in self.behind.said if kind == "P")
        self.assertNotIn(b"DROP", parse)
        self.assertIn(b"pg_catalog.set_config($1, $2, false)", parse)
        bind = next(body for kind, body in self.behind.said if kind == "B")
        self.assertIn(nasty.encode(), bind)
        self.assertEqual(self.behind.said[-1][0], chr(messages.SYNC_TYPE))
        self.behind.said.clear()
        await server.run(settings_request((("search_path", nasty),)))
        ((kind, body),) = self.behind.said
        self.assertEqual((kind, body[:4]), ("F", SET_CONFIG))
        self.assertEqual(values_of(body[4:]), ["search_path", nasty, "f"])
        self.near.abort()
        self.shop.give_back(server)
