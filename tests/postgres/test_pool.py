"""
Tests for L{proxyd.postgres.pool}: how many connections there are, how old they
get, and whose turn it is.

The server is one of memory that logs in when the test says so; the last class
has real sockets.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.model import Connection, Dsn
from proxyd.errors import DialError, DialFailure
from proxyd.postgres.answers import Fatal, Refused
from proxyd.postgres.conversation import Lost
from proxyd.postgres.pool import JITTER, Pool
from proxyd.target import Target
from proxyd.wire.pg.errors import ServerMessage
from tests.postgres.client import until
from tests.postgres.fakeserver import message, ready, text
from tests.postgres.scene import SERVICE, SceneTestCase


class EndStub:
    """Of an End only whether it lives, and whether something came."""

    closed = False
    stirring = False


class ConversationStub:
    """Of a conversation only what came early."""

    early = b""


class ServerStub:
    """A server connection of memory."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.end = EndStub()
        self.conversation = ConversationStub()
        self.parameters = {"server_version": "15"}
        self.unsuited = ""
        self.address = "db.example:5432"
        self.created = self.idle_since = self.checked = self.expires = now
        self.token_age = 0.0
        self.said_goodbye = False
        self.aborted = False
        self.resting = False
        self.heard = ""
        self.stirred: Any = None
        self.asked: Deferred[list[tuple[int, bytes]]] | None = None

    def __repr__(self) -> str:
        return f"<connection {self.number}>"

    @property
    def closed(self) -> bool:
        """Whether it is over, one way or the other."""
        return self.said_goodbye or self.aborted

    def rest(self, stirred: Any) -> None:
        """Nobody uses it."""
        self.resting, self.stirred = True, stirred

    def wake(self) -> None:
        """Somebody will use it."""
        self.resting = False

    def overheard(self) -> str:
        """What it said by itself."""
        return self.heard

    async def run(self, request: bytes) -> list[tuple[int, bytes]]:
        """Answer when the test says so."""
        self.asked = Deferred()
        return await self.asked

    def answer_check(self) -> None:
        """Answer, if it was asked whether it is there."""
        if self.asked is not None and not self.asked.called:
            self.asked.callback([])

    def goodbye(self) -> None:
        """Close in order."""
        self.said_goodbye = self.end.closed = True

    def abort(self) -> None:
        """Close at once."""
        self.aborted = self.end.closed = True


class Behind:
    """The server behind a pool: its logins wait for the test."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self.connection = connection
        self.clock = clock
        self.logins: list[Deferred[ServerStub]] = []
        self.made: list[ServerStub] = []

    async def login(self, *_: object) -> ServerStub:
        """A login is under way."""
        login: Deferred[ServerStub] = Deferred()
        self.logins.append(login)
        return await login

    def let_in(self, count: int = 1) -> ServerStub:
        """So many logins succeed, oldest first; gives the last connection."""
        for _ in range(count):
            self.made.append(ServerStub(len(self.made), self.clock.seconds()))
            self.logins.pop(0).callback(self.made[-1])
        return self.made[-1]

    def fail(self, sqlstate: str = "") -> None:
        """The oldest login fails: the server says this, or can't be reached."""
        error: Exception = DialError(DialFailure.REFUSED, "db.example:5432")
        if sqlstate:
            error = Refused(ServerMessage("FATAL", sqlstate, "words"), False)
        self.logins.pop(0).errback(error)


def shop(**changes: Any) -> Connection:
    """A connection's settings; no minimum unless it is asked for."""
    dsn = Dsn((Target("db.example", 5432),), "svc", "shop")
    plain = Connection("shop", dsn, min_idle_connections=0, max_open_connections=3)
    return replace(plain, **changes)


class PoolTestCase(SynchronousTestCase):
    """
    A pool of memory and a clock.

    @ivar answering: health checks are answered at once
    """

    answering = True

    def make(self, *, keep_warm: bool = False, random: float = 0.0, **changes: Any) -> Pool:
        """A pool with these settings."""
        self.clock = Clock()
        self.behind = Behind(shop(**changes), self.clock)
        server: Any = self.behind
        self.pool = Pool(server, SERVICE, "shop", self.clock, lambda: random, keep_warm)
        return self.pool

    def leased(self, count: int) -> list[Any]:
        """So many connections, opened and leased."""
        waiting = [self.pool.acquire() for _ in range(count)]
        self.behind.let_in(len(self.behind.logins))
        return [self.successResultOf(one) for one in waiting]

    def idle(self, count: int) -> list[Any]:
        """So many connections, opened and idle."""
        servers = self.leased(count)
        for server in servers:
            self.pool.give_back(server)
        return servers

    def pass_time(self, seconds: float) -> None:
        """Let time pass as the pools do: with a look each second."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.pool.tick(self.clock.seconds())
            for server in self.behind.made if self.answering else ():
                server.answer_check()

    def fatal(self, waiting: Deferred[Any]) -> Fatal:
        """How somebody was turned away."""
        error: Fatal = self.failureResultOf(waiting, Fatal).value
        return error


class TurnTests(PoolTestCase):
    """Whose turn it is."""

    def test_first_come_first_served(self) -> None:
        """Those who wait get a connection in the order in which they came."""
        self.make(max_open_connections=1)
        (server,) = self.leased(1)
        order: list[int] = []
        for number in range(5):
            self.pool.acquire().addCallback(lambda got, number=number: order.append(number))
        for number in range(5):
            self.pool.give_back(server)
            self.assertEqual(order, list(range(number + 1)))

    def test_nobody_jumps_the_queue(self) -> None:
        """Whoever comes while others wait gets in line, even as a connection comes back."""
        self.make(max_open_connections=1)
        (server,) = self.leased(1)
        jumped: list[Deferred[Any]] = []
        first = self.pool.acquire()
        second = self.pool.acquire()
        first.addCallback(lambda got: jumped.append(self.pool.acquire()))
        self.pool.give_back(server)
        self.assertNoResult(second)
        self.pool.give_back(server)
        self.assertIs(self.successResultOf(second), server)
        self.assertNoResult(jumped[0])

    def test_at_once(self) -> None:
        """An idle connection is had at once, the one used last first."""
        self.make()
        one, two = self.idle(2)
        self.assertIs(self.successResultOf(self.pool.acquire()), two)
        self.assertIs(self.successResultOf(self.pool.acquire()), one)
        self.assertEqual(self.behind.logins, [])

    def test_taken(self) -> None:
        """Without a wait it is the same, but never ahead of somebody who waits."""
        self.make(max_open_connections=2)
        one, two = self.idle(2)
        before = replace(self.pool.counters)
        self.assertIs(self.pool.take(), two)
        self.assertIs(self.pool.take(), one)
        self.assertIsNone(self.pool.take())
        waiting = self.pool.acquire()
        self.assertIsNone(self.pool.take())
        counters = self.pool.counters
        self.assertEqual(counters.acquire_count - before.acquire_count, 3)
        self.assertEqual(counters.acquire_waited - before.acquire_waited, 1)
        self.pool.give_back(one)
        self.assertIs(self.successResultOf(waiting), one)
        self.pool.close()
        self.assertIsNone(self.pool.take())

    def test_maximum(self) -> None:
        """No more than the maximum are opened, however many wait."""
        self.make(max_open_connections=3)
        waiting = [self.pool.acquire() for _ in range(10)]
        self.assertEqual(len(self.behind.logins), 3)
        self.behind.let_in(3)
        self.pass_time(5)
        self.assertEqual((self.pool.total, len(self.behind.logins)), (3, 0))
        self.assertEqual((self.pool.in_use, self.pool.waiting), (3, 7))
        for one in waiting[3:]:
            self.assertNoResult(one)

    def test_gave_up(self) -> None:
        """Whoever gives up gives up the place: the next one gets the connection."""
        self.make(max_open_connections=1)
        (server,) = self.leased(1)
        first, second = self.pool.acquire(), self.pool.acquire()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.pool.give_back(server)
        self.assertIs(self.successResultOf(second), server)
        self.assertEqual(self.pool.waiting, 0)

    def test_too_long(self) -> None:
        """After acquire_timeout whoever waits is told 53300; not a second before."""
        self.make(max_open_connections=1, acquire_timeout=30.0)
        self.leased(1)
        waiting = self.pool.acquire()
        self.clock.advance(29.0)
        self.assertNoResult(waiting)
        self.clock.advance(1.5)
        fatal = self.fatal(waiting)
        self.assertEqual(fatal.sqlstate, "53300")
        self.assertIn("30 seconds", fatal.message)
        self.assertEqual(self.pool.counters.acquire_timeouts, 1)

    def test_late_connection_is_kept(self) -> None:
        """A connection that was opened for somebody who left is kept for the next."""
        self.make()
        first = self.pool.acquire()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        server = self.behind.let_in()
        self.assertIs(self.successResultOf(self.pool.acquire()), server)

    def test_lost_one_is_replaced(self) -> None:
        """A leased connection that is closed makes room for whoever waits."""
        self.make(max_open_connections=1)
        (server,) = self.leased(1)
        waiting = self.pool.acquire()
        self.pool.discard(server)
        replacement = self.behind.let_in()
        self.assertIs(self.successResultOf(waiting), replacement)


class FailureTests(PoolTestCase):
    """What happens when no connection can be opened."""

    def test_all_are_told_why(self) -> None:
        """Everybody who waits learns the cause at once."""
        self.make(max_open_connections=1)
        waiting = [self.pool.acquire() for _ in range(3)]
        self.behind.fail()
        self.assertEqual([self.fatal(one).sqlstate for one in waiting], ["08001"] * 3)
        self.assertEqual(self.pool.counters.open_failures, 1)

    def test_service_user(self) -> None:
        """A refused service user is 08006: no client's fault."""
        self.make()
        waiting = self.pool.acquire()
        self.behind.fail("28P01")
        fatal = self.fatal(waiting)
        self.assertEqual(fatal.sqlstate, "08006")
        self.assertIn("28P01", fatal.detail)

    def test_not_before_all_failed(self) -> None:
        """As long as another attempt runs, nobody is told yet."""
        self.make()
        one, two = self.pool.acquire(), self.pool.acquire()
        self.behind.fail()
        self.assertNoResult(one)
        server = self.behind.let_in()
        self.assertIs(self.successResultOf(one), server)
        self.assertNoResult(two)

    def test_pauses(self) -> None:
        """Attempts are paused longer and longer, up to half a minute, and never given up."""
        self.make(acquire_timeout=10_000.0)
        self.leased(1)
        self.pool.acquire()
        tries = []
        for _ in range(300):
            if self.behind.logins:
                tries.append(self.clock.seconds())
                self.behind.fail()
            self.pass_time(1)
        gaps = [later - earlier for earlier, later in pairwise(tries)]
        self.assertEqual(gaps, sorted(gaps))
        self.assertLessEqual(max(gaps), 31)
        self.assertGreater(len(gaps), 8)

    def test_one_blow_is_one_failure(self) -> None:
        """Attempts that fail together are one failure: the next comes as soon as after one."""
        self.make(max_open_connections=10)
        waiting = [self.pool.acquire() for _ in range(10)]
        for _ in range(10):
            self.behind.fail()
        for one in waiting:
            self.fatal(one)
        again = self.pool.acquire()
        self.pass_time(1)
        server = self.behind.let_in()
        self.assertIs(self.successResultOf(again), server)

    def test_success_ends_the_pause(self) -> None:
        """After a success a new failure begins with a short pause again."""
        self.make(acquire_timeout=1000.0)
        for _ in range(8):
            waiting = self.pool.acquire()
            self.pass_time(31)
            self.behind.fail()
            self.fatal(waiting)
        waiting = self.pool.acquire()
        self.pass_time(31)
        self.behind.let_in()
        self.pool.discard(self.successResultOf(waiting))
        failed = self.pool.acquire()
        self.behind.fail()
        self.fatal(failed)
        self.pool.acquire()
        self.pass_time(2)
        self.assertEqual(len(self.behind.logins), 1)

    def test_starting_up(self) -> None:
        """A server that only starts (57P03) is asked again soon, and nobody is turned away."""
        self.make()
        waiting = self.pool.acquire()
        for _ in range(10):
            self.behind.fail("57P03")
            self.assertNoResult(waiting)
            self.pass_time(1)
        server = self.behind.let_in()
        self.assertIs(self.successResultOf(waiting), server)

    def test_cause_beats_full(self) -> None:
        """Whoever waits out the timeout while the server can't be reached learns that."""
        self.make(acquire_timeout=10.0)
        self.leased(1)
        waiting = self.pool.acquire()
        for _ in range(20):
            while self.behind.logins:
                self.behind.fail()
            self.pass_time(1)
        self.assertEqual(self.fatal(waiting).sqlstate, "08001")

    def test_logged_once(self) -> None:
        """The same trouble is one line of the log, not one each attempt; it is kept to be shown."""
        self.make(acquire_timeout=10_000.0)
        self.leased(1)
        self.pool.acquire()
        for _ in range(100):
            while self.behind.logins:
                self.behind.fail()
            self.pass_time(1)
        self.assertIn("connection refused", self.pool.last_error)
        self.assertGreater(self.pool.counters.open_failures, 3)


class WarmTests(PoolTestCase):
    """The minimum that is kept warm."""

    def test_minimum(self) -> None:
        """The minimum is opened without being asked for, and kept up as some are taken."""
        self.make(keep_warm=True, min_idle_connections=2, max_open_connections=10)
        self.pass_time(1)
        self.behind.let_in(2)
        self.assertEqual(self.pool.idle, 2)
        self.successResultOf(self.pool.acquire())
        self.pass_time(1)
        self.behind.let_in(1)
        self.assertEqual((self.pool.idle, self.pool.in_use), (2, 1))

    def test_only_with_clients(self) -> None:
        """A pool that is not kept warm has its minimum while clients are there."""
        self.make(min_idle_connections=1)
        self.pass_time(3)
        self.assertEqual(self.behind.logins, [])
        self.pool.clients = 1
        self.pass_time(1)
        self.assertEqual(len(self.behind.logins), 1)

    def test_never_above_maximum(self) -> None:
        """The minimum gives way to the maximum."""
        self.make(keep_warm=True, min_idle_connections=5, max_open_connections=3)
        self.pass_time(1)
        self.assertEqual(len(self.behind.logins), 3)

    def test_max_idle(self) -> None:
        """More than max_idle_connections are closed as they come back."""
        self.make(max_idle_connections=1)
        one, two = self.idle(2)
        self.assertFalse(one.closed)
        self.assertTrue(two.said_goodbye)
        self.assertEqual((self.pool.idle, self.pool.counters.max_idle_closed), (1, 1))


class AgeTests(PoolTestCase):
    """How old connections get."""

    def test_jitter_only_shortens(self) -> None:
        """A lifetime is between nine tenths and the whole of what was set."""
        for random in (0.0, 0.5, 0.999):
            self.make(random=random, connection_max_lifetime=1000.0)
            (server,) = self.leased(1)
            self.assertLessEqual(server.expires, 1000.0)
            self.assertGreater(server.expires, 1000.0 * (1 - JITTER) - 0.01)

    def test_lifetime_of_idle(self) -> None:
        """An idle connection ends with its lifetime."""
        self.make(connection_max_lifetime=100.0)
        (server,) = self.idle(1)
        self.pass_time(99)
        self.assertFalse(server.closed)
        self.pass_time(1)
        self.assertTrue(server.said_goodbye)
        self.assertEqual(self.pool.counters.max_lifetime_closed, 1)

    def test_never_cut_while_leased(self) -> None:
        """A leased connection is left alone; it ends when it comes back."""
        self.make(connection_max_lifetime=100.0)
        (server,) = self.leased(1)
        self.pass_time(1000)
        self.assertFalse(server.closed)
        self.pool.give_back(server)
        self.assertTrue(server.said_goodbye)
        self.assertEqual((self.pool.total, self.pool.counters.max_lifetime_closed), (0, 1))

    def test_replaced_before_removed(self) -> None:
        """At the minimum the new connection is there before the old one goes."""
        self.make(keep_warm=True, min_idle_connections=1, connection_max_lifetime=100.0)
        self.pass_time(1)
        old = self.behind.let_in()
        self.pass_time(101)
        self.assertFalse(old.closed)
        self.assertEqual(len(self.behind.logins), 1)
        self.behind.let_in()
        self.pass_time(1)
        self.assertTrue(old.said_goodbye)
        self.assertEqual(self.pool.idle, 1)
        self.assertEqual(self.pool.counters.max_lifetime_closed, 1)

    def test_replaced_where_no_more_may_be_idle(self) -> None:
        """A replacement takes the old one's place where no more may be idle: one login each."""
        self.make(
            keep_warm=True,
            min_idle_connections=2,
            max_idle_connections=2,
            connection_max_lifetime=100.0,
        )
        self.pass_time(1)
        self.behind.let_in(2)
        for _ in range(110):
            self.pass_time(1)
            self.behind.let_in(len(self.behind.logins)) if self.behind.logins else None
        self.assertEqual(len(self.behind.made), 4)
        self.assertEqual([server.closed for server in self.behind.made], [True] * 2 + [False] * 2)
        self.assertEqual(self.pool.counters.max_idle_closed, 0)
        self.assertEqual(self.pool.counters.max_lifetime_closed, 2)

    def test_server_down_at_the_end(self) -> None:
        """An old connection does not live on for ever because no new one can be had."""
        self.make(
            keep_warm=True, min_idle_connections=1, connection_max_lifetime=100.0,
            connect_timeout=10.0,
        )  # fmt: skip
        self.pass_time(1)
        old = self.behind.let_in()
        for _ in range(115):
            self.pass_time(1)
            while self.behind.logins:
                self.behind.fail()
        self.assertTrue(old.closed)

    def test_idle_time(self) -> None:
        """Connections idle for too long are closed, down to the minimum."""
        self.make(keep_warm=True, min_idle_connections=1, connection_max_idle_time=50.0)
        servers = self.idle(3)
        self.pass_time(49)
        self.assertEqual(self.pool.idle, 3)
        self.pass_time(1)
        self.assertEqual(self.pool.idle, 1)
        self.assertEqual([server.closed for server in servers], [True, True, False])
        self.assertEqual(self.pool.counters.max_idle_time_closed, 2)


class CheckTests(PoolTestCase):
    """Whether idle connections still answer."""

    answering = False

    def test_answers(self) -> None:
        """A connection that answers stays, and is not counted as used."""
        self.make(health_check_period=60.0)
        (server,) = self.idle(1)
        self.pass_time(60)
        self.assertEqual((self.pool.idle, self.pool.in_use), (0, 1))
        server.asked.callback([])
        self.assertEqual((self.pool.idle, self.pool.in_use), (1, 0))
        self.assertEqual((server.checked, server.idle_since), (60.0, 0.0))

    def test_does_not_answer(self) -> None:
        """One that does not is closed and counted."""
        self.make(health_check_period=60.0)
        (server,) = self.idle(1)
        self.pass_time(60)
        server.asked.errback(Lost("it did not answer in time"))
        self.assertTrue(server.aborted)
        self.assertEqual((self.pool.total, self.pool.counters.lost), (0, 1))

    def test_goes_to_whoever_waits(self) -> None:
        """Somebody who comes during the check gets the connection after it."""
        self.make(max_open_connections=1, health_check_period=60.0)
        (server,) = self.idle(1)
        self.pass_time(60)
        waiting = self.pool.acquire()
        self.assertNoResult(waiting)
        server.asked.callback([])
        self.assertIs(self.successResultOf(waiting), server)

    def test_check_is_no_use(self) -> None:
        """A checked connection keeps its place: one client in turn does not keep all alive."""
        self.make(health_check_period=10.0, connection_max_idle_time=100.0)
        self.idle(3)
        self.answering = True
        for _ in range(130):
            self.pass_time(1)
            self.pool.give_back(self.successResultOf(self.pool.acquire()))
        self.assertEqual(self.pool.idle, 1)


class DeadTests(PoolTestCase):
    """Connections that die in the pool."""

    def test_died_at_rest(self) -> None:
        """One that says FATAL or ends while idle is gone before anybody asks for it."""
        self.make()
        (server,) = self.idle(1)
        server.heard = "57P01 terminating connection"
        server.stirred()
        self.assertTrue(server.aborted)
        self.assertEqual((self.pool.total, self.pool.counters.lost), (0, 1))

    def test_still_good(self) -> None:
        """One that only reports a parameter stays, and the pool learns it."""
        self.make()
        (server,) = self.idle(1)
        server.parameters = {"in_hot_standby": "on"}
        server.stirred()
        self.assertEqual(self.pool.parameters, {"in_hot_standby": "on"})
        self.assertIs(self.successResultOf(self.pool.acquire()), server)

    def test_passed_over(self) -> None:
        """One with an end or a word still unread is passed over, for one that lives."""
        self.make()
        good, *bad = self.idle(3)
        bad[0].end.stirring = True
        bad[1].conversation.early = b"E"
        self.assertIs(self.successResultOf(self.pool.acquire()), good)
        self.assertEqual([server.aborted for server in bad], [True, True])
        self.assertEqual(self.pool.counters.lost, 2)

    def test_all_dead(self) -> None:
        """Where all died a new one is opened: the client only waits."""
        self.make()
        for server in self.idle(3):
            server.end.closed = True
        waiting = self.pool.acquire()
        self.assertIs(self.behind.let_in(), self.successResultOf(waiting))


class CloseTests(PoolTestCase):
    """A pool's end."""

    def test_idle_and_leased(self) -> None:
        """What is idle goes at once, what is leased when it comes back."""
        self.make()
        one, two = self.leased(2)
        self.pool.give_back(one)
        self.pool.close()
        self.assertTrue(one.said_goodbye)
        self.assertFalse(two.closed)
        self.pool.give_back(two)
        self.assertTrue(two.said_goodbye)
        self.assertEqual(self.pool.total, 0)

    def test_opening(self) -> None:
        """A connection that was being opened is closed as it comes."""
        self.make()
        waiting = self.pool.acquire()
        self.pool.close()
        self.fatal(waiting)
        self.assertTrue(self.behind.let_in().said_goodbye)
        self.assertEqual(self.pool.total, 0)

    def test_nobody_gets_in(self) -> None:
        """Without an heir those who wait and those who come are turned away."""
        self.make(max_open_connections=1)
        self.leased(1)
        waiting = self.pool.acquire()
        self.pool.close()
        self.fatal(waiting)
        self.fatal(self.pool.acquire())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def heir(self) -> Pool:
        """Another pool on the same clock."""
        self.heirs = Behind(shop(max_open_connections=1), self.clock)
        server: Any = self.heirs
        return Pool(server, SERVICE, "shop", self.clock, lambda: 0.0, False)

    def test_heir(self) -> None:
        """Those who wait go over to the heir in their order; its connection belongs to it."""
        self.make(max_open_connections=1)
        self.leased(1)
        first, second = self.pool.acquire(), self.pool.acquire()
        heir = self.heir()
        self.pool.close(heir)
        server = self.heirs.let_in()
        self.assertIs(self.successResultOf(first), server)
        self.assertNoResult(second)
        self.assertEqual((heir.in_use, self.pool.in_use), (1, 1))
        self.assertIs(self.pool.holder_of(server), heir)
        heir.give_back(server)
        self.assertIs(self.successResultOf(second), server)

    def test_heir_is_asked(self) -> None:
        """Whoever asks a closed pool is served by its heir, and that one's heir."""
        self.make()
        heir = self.heir()
        self.pool.close(heir)
        last = Pool(self.heirs, SERVICE, "shop", self.clock, lambda: 0.0, False)  # type: ignore[arg-type]
        heir.close(last)
        self.assertIs(self.pool.current, last)
        self.assertIs(last.current, last)

    def test_gave_up_at_the_heir(self) -> None:
        """Whoever went over and then gives up leaves no connection behind that nobody has."""
        self.make(max_open_connections=1)
        self.leased(1)
        waiting = self.pool.acquire()
        heir = self.heir()
        self.pool.close(heir)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        server = self.heirs.let_in()
        self.assertEqual((heir.in_use, heir.idle, heir.waiting), (0, 1, 0))
        self.assertIs(self.successResultOf(heir.acquire()), server)

    def test_abort(self) -> None:
        """At the very end everything is closed at once."""
        self.make()
        servers = self.leased(2)
        self.pool.abort()
        self.assertEqual([server.aborted for server in servers], [True, True])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class PoolMachine(RuleBasedStateMachine):
    """Whatever clients, servers and time do, what the pool promises holds."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        connection = shop(
            min_idle_connections=1,
            max_open_connections=3,
            max_idle_connections=2,
            connection_max_lifetime=40.0,
            connection_max_idle_time=20.0,
            health_check_period=10.0,
            acquire_timeout=15.0,
        )
        self.behind = Behind(connection, self.clock)
        server: Any = self.behind
        self.pool = Pool(server, SERVICE, "shop", self.clock, lambda: 0.5, True)
        self.hands: list[Any] = []
        self.waiting: list[Deferred[Any]] = []
        self.turned_away = 0
        self.before = self.pool.counters.as_dict()

    @rule()
    def acquire(self) -> None:
        """Somebody wants a connection."""
        waiting = self.pool.acquire()
        self.waiting.append(waiting)

        def got(server: Any) -> None:
            assert server not in self.hands, "in two hands"
            assert not server.closed, "closed, and handed out"
            first = next(one for one in self.waiting if not one.called or one is waiting)
            assert first is waiting, "out of turn"
            self.hands.append(server)

        def refused(failure: Any) -> None:
            failure.trap(Fatal, CancelledError)
            self.turned_away += 1

        def over(result: object) -> None:
            self.waiting.remove(waiting)

        waiting.addCallbacks(got, refused).addBoth(over)

    @precondition(lambda self: self.hands)
    @rule(number=st.integers(0, 9))
    def give_back(self, number: int) -> None:
        """Somebody is done."""
        self.pool.give_back(self.hands.pop(number % len(self.hands)))

    @precondition(lambda self: self.hands)
    @rule(number=st.integers(0, 9))
    def discard(self, number: int) -> None:
        """Somebody's connection broke."""
        server = self.hands.pop(number % len(self.hands))
        server.abort()
        self.pool.discard(server)

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0, 9))
    def give_up(self, number: int) -> None:
        """Somebody waits no longer."""
        self.waiting[number % len(self.waiting)].cancel()

    @precondition(lambda self: self.behind.logins)
    @rule()
    def logged_in(self) -> None:
        """A login succeeds."""
        self.behind.let_in()

    @precondition(lambda self: self.behind.logins)
    @rule(sqlstate=st.sampled_from(("", "28P01", "57P03")))
    def login_failed(self, sqlstate: str) -> None:
        """A login fails."""
        self.behind.fail(sqlstate)

    @rule(number=st.integers(0, 9), seen=st.booleans())
    def died(self, number: int, seen: bool) -> None:
        """An idle connection dies; the pool sees it now, or when it looks."""
        resting = [server for server in self.behind.made if server.resting and not server.closed]
        if resting:
            server = resting[number % len(resting)]
            server.heard = "it ended"
            server.end.stirring = True
            if seen:
                server.stirred()

    @rule(good=st.booleans())
    def checked(self, good: bool) -> None:
        """A connection answers its check, or does not."""
        for server in self.behind.made:
            if server.asked is not None and not server.asked.called:
                server.answer_check() if good else server.asked.errback(Lost("gone"))

    @rule(seconds=st.integers(1, 30))
    def time(self, seconds: int) -> None:
        """Time passes."""
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.pool.tick(self.clock.seconds())

    @invariant()
    def within_maximum(self) -> None:
        """Never more than the maximum; none forgotten."""
        assert self.pool.total <= 3
        assert len(self.behind.logins) <= 3
        alive = [server for server in self.behind.made if not server.closed]
        assert len(alive) + len(self.behind.logins) == self.pool.total

    @invariant()
    def nobody_waits_beside_an_idle_one(self) -> None:
        """Whoever waits does so because there is none."""
        assert not (self.pool.waiting and self.pool.idle)
        assert self.pool.waiting == len(self.waiting)
        assert self.pool.idle <= 2

    @invariant()
    def leased_ones_live(self) -> None:
        """No leased connection is ever cut."""
        assert not any(server.closed for server in self.hands)

    @invariant()
    def counters_only_grow(self) -> None:
        """No counter goes back."""
        now = self.pool.counters.as_dict()
        assert all(now[name] >= value for name, value in self.before.items())
        self.before = now

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """Whoever waits has a connection to hope for: opening, in use, or tried again soon."""
        if self.pool.waiting:
            assert self.pool.total or self.clock.getDelayedCalls()


class AnythingTests(SynchronousTestCase):
    """Whatever happens in whatever order."""

    def test_promises_hold(self) -> None:
        """Clients, servers and time in any order break no promise of the pool's."""
        run_state_machine_as_test(
            PoolMachine,
            settings=hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None),
        )


class RealTests(SceneTestCase):
    """The pool with real sockets."""

    async def test_dead_ones_unseen(self) -> None:
        """A server that restarts while its connections are idle: nobody notices."""
        pool = self.pool()
        first = await pool.acquire()
        pool.give_back(first)
        backend = await self.backend()
        backend.fatal()
        await until(lambda: not pool.total, "the pool to notice")
        second = await pool.acquire()
        self.assertIsNot(second, first)
        self.assertEqual(pool.counters.lost, 1)

    async def test_end_not_read_yet(self) -> None:
        """An end that waits unread in the socket is seen as the connection is taken."""
        pool = self.pool()
        first = await pool.acquire()
        backend = await self.backend()
        backend.fatal()
        await until(lambda: first.end.stirring, "the words to arrive")
        pool.give_back(first)
        second = await pool.acquire()
        self.assertIsNot(second, first)

    async def test_promoted(self) -> None:
        """A connection to a standby that was promoted is replaced when a health check tells."""
        self.fake.parameters |= {"in_hot_standby": "on", "default_transaction_read_only": "off"}
        dsn = self.dsn(parameters={"target_session_attrs": "prefer-standby"})
        pool = self.pool(self.connection(dsn=dsn, health_check_period=60.0))
        server = await pool.acquire()
        pool.give_back(server)
        backend = await self.backend()
        backend.server.answers[""] = (
            message(b"S", text("in_hot_standby") + text("off")) + message(b"I") + ready()
        )
        self.clock.advance(60.0)
        pool.tick(self.clock.seconds())
        await until(lambda: self.fake.terminates, "the goodbye")
        self.assertEqual((pool.total, pool.counters.max_lifetime_closed), (0, 1))

    async def test_health_check(self) -> None:
        """A server that hangs is found out by the check, at connect_timeout."""
        self.fake.answers[""] = lambda backend: None
        pool = self.pool(self.connection(health_check_period=60.0, connect_timeout=10.0))
        pool.give_back(await pool.acquire())
        backend = await self.backend()
        self.clock.advance(60.0)
        pool.tick(self.clock.seconds())
        await until(lambda: backend.queries, "the check")
        self.assertEqual(backend.queries, [""])
        self.clock.advance(10.0)
        await until(lambda: not pool.total, "the pool to give it up")
