"""Tests for L{proxyd.net.failover}: on a clock of their own, with links that obey the test."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.times import UpstreamTimes
from proxyd.errors import DialError, DialFailure, StartError
from proxyd.net.failover import Failover, WayLost

TIMES = UpstreamTimes(connect=15.0, first_pause=1.0, longest_pause=8.0, soonest=1.0, settle=5.0)


class FakeLink:
    """A connected instance."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gone: Deferred[str] = Deferred()
        self.sessions = 1
        self.streams = 0
        self.closed = False

    def close(self) -> None:
        """Gone when the test says so, by C{gone}."""
        self.closed = True


class FailoverCase(SynchronousTestCase):
    """Two instances, C{a} before C{b}, that are connected when the test says so."""

    names = ("a", "b")

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: dict[str, list[Deferred[FakeLink]]] = {name: [] for name in self.names}
        self.failover: Failover[FakeLink] = Failover(
            "office",
            [(name, lambda name=name: self.connect(name)) for name in self.names],  # type: ignore[misc]
            self.clock,
            lambda: 1.0,
            TIMES,
        )

    def connect(self, name: str) -> Coroutine[Any, Any, FakeLink]:
        """Somebody wants this instance connected."""

        async def wait() -> FakeLink:
            asked: Deferred[FakeLink] = Deferred()
            self.asked[name].append(asked)
            return await asked

        return wait()

    def up(self, name: str) -> FakeLink:
        """The last try of this one succeeds."""
        link = FakeLink(name)
        self.asked[name][-1].callback(link)
        return link

    def down(self, name: str, why: str = "refused") -> None:
        """The last try of this one fails."""
        self.asked[name][-1].errback(OSError(why))

    def use(self, *lost: str) -> Deferred[str]:
        """Use it, lost on the way of those named; fires with the name of the one that was used."""

        async def attempt(link: FakeLink) -> str:
            if link.name in lost:
                raise WayLost(DialFailure.LOST, f"target: {link.name} is lost")
            return link.name

        return Deferred.fromCoroutine(self.failover.use(attempt))

    def tries(self, name: str) -> int:
        """How often this one was tried."""
        return len(self.asked[name])


class StartTests(FailoverCase):
    """All are connected at start."""

    def test_both_at_once(self) -> None:
        """Both are tried, and the first is preferred even when it comes later."""
        self.failover.start()
        self.assertEqual((self.tries("a"), self.tries("b")), (1, 1))
        self.up("b")
        self.assertEqual(self.successResultOf(self.use()), "b")
        self.up("a")
        self.assertEqual(self.successResultOf(self.use()), "a")

    def test_ready(self) -> None:
        """Ready when one is there; asked later, it says so at once."""
        self.failover.start()
        ready = self.failover.ready()
        self.down("a")
        self.assertNoResult(ready)
        self.up("b")
        self.assertIsNone(self.successResultOf(ready))
        self.assertIsNone(self.successResultOf(self.failover.ready()))

    def test_not_ready(self) -> None:
        """All have failed once: one line with the upstream, each instance, and why."""
        self.failover.start()
        ready = self.failover.ready()
        self.down("a", "refused")
        self.down("b", "no route")
        text = str(self.failureResultOf(ready, StartError).value)
        self.assertEqual(text, "upstream office: no way there: a: refused; b: no route")
        self.failureResultOf(self.failover.ready(), StartError)
        self.clock.advance(1.0)
        self.up("a")
        self.assertIsNone(self.successResultOf(self.failover.ready()))

    def test_connecting_has_a_deadline(self) -> None:
        """An instance that never answers counts as failed, and its try is cancelled."""
        self.failover.start()
        ready = self.failover.ready()
        self.clock.advance(15.1)
        text = str(self.failureResultOf(ready, StartError).value)
        self.assertIn("a: not connected in 15 s", text)


class UseTests(FailoverCase):
    """Which one is used."""

    def test_next_at_once(self) -> None:
        """The way of one is lost: the next is used at once."""
        self.failover.start()
        self.up("a")
        self.up("b")
        self.assertEqual(self.successResultOf(self.use("a")), "b")

    def test_target_is_not_the_way(self) -> None:
        """A target that refuses is asked once, and no other instance tries it."""
        self.failover.start()
        self.up("a")
        self.up("b")
        asked: list[str] = []

        async def attempt(link: FakeLink) -> str:
            asked.append(link.name)
            raise DialError(DialFailure.REFUSED, "target")

        using = Deferred.fromCoroutine(self.failover.use(attempt))
        self.assertIs(self.failureResultOf(using, DialError).value.failure, DialFailure.REFUSED)
        self.assertEqual((asked, self.failover.status().failed), (["a"], 0))

    def test_lost_one_is_used_again(self) -> None:
        """Lost, it is connected again, and preferred again when it was well for a while."""
        self.failover.start()
        first = self.up("a")
        self.up("b")
        first.gone.callback("cut off")
        self.assertEqual(self.successResultOf(self.use()), "b")
        self.assertEqual(self.failover.status().in_use, "b")
        self.clock.advance(1.0)
        self.up("a")
        self.assertEqual(self.successResultOf(self.use()), "b")
        self.clock.advance(5.0)
        self.assertEqual(self.successResultOf(self.use()), "a")

    def test_unsettled_is_better_than_none(self) -> None:
        """One that has just come back is used where there is no other."""
        self.failover.start()
        first = self.up("a")
        self.down("b")
        first.gone.callback("cut off")
        self.clock.advance(1.0)
        self.up("a")
        self.assertEqual(self.successResultOf(self.use()), "a")

    def test_waits_for_the_first_connect(self) -> None:
        """Who comes early waits for whichever is there first."""
        self.failover.start()
        using = self.use()
        self.down("a")
        self.assertNoResult(using)
        self.up("b")
        self.assertEqual(self.successResultOf(using), "b")

    def test_none(self) -> None:
        """All are lost: whoever comes has them tried at once, and is told why not."""
        self.failover.start()
        self.down("a", "refused")
        self.down("b", "no route")
        # They were tried just now: nobody is kept waiting for another try.
        problem = self.failureResultOf(self.use(), DialError).value
        self.assertIs(problem.failure, DialFailure.BROKEN)
        self.assertEqual(problem.detail, "upstream office: a: refused; b: no route")
        self.clock.advance(1.0)
        self.down("a")
        self.down("b")
        self.clock.advance(1.5)  # the next tries are due after two seconds
        using = self.use()
        self.assertEqual((self.tries("a"), self.tries("b")), (3, 3))
        self.down("a")
        self.assertNoResult(using)
        self.up("b")
        self.assertEqual(self.successResultOf(using), "b")
        self.assertEqual((self.failover.status().opened, self.failover.status().failed), (1, 1))

    def test_cancelled(self) -> None:
        """Who gives up waiting is forgotten."""
        self.failover.start()
        using = self.use()
        using.cancel()
        self.failureResultOf(using, CancelledError)
        self.up("a")

    def test_hopeless(self) -> None:
        """Where every way fails though all are connected, it ends."""
        self.failover.start()
        self.up("a")
        self.up("b")
        problem = self.failureResultOf(self.use("a", "b"), DialError).value
        self.assertIs(problem.failure, DialFailure.BROKEN)
        self.assertIn("a is lost", problem.detail)


class PauseTests(FailoverCase):
    """How often a lost one is tried."""

    names = ("a",)

    def test_growing(self) -> None:
        """Pauses double up to the longest; a loss after a good while begins anew."""
        self.failover.start()
        moments = []
        for _ in range(6):
            self.down("a")
            before, now = self.tries("a"), self.clock.seconds()
            while self.tries("a") == before:
                self.clock.advance(0.5)
            moments.append(self.clock.seconds() - now)
        self.assertEqual(moments, [1.0, 2.0, 4.0, 8.0, 8.0, 8.0])
        link = self.up("a")
        self.clock.advance(60.0)
        link.gone.callback("cut off")
        self.clock.advance(1.0)
        self.assertEqual(self.tries("a"), 8)

    def test_flapping(self) -> None:
        """One that is lost as soon as it is connected is not tried faster and faster."""
        self.failover.start()
        for pause in (1.0, 2.0, 4.0):
            self.up("a").gone.callback("cut off")
            before = self.tries("a")
            self.clock.advance(pause - 0.1)
            self.assertEqual(self.tries("a"), before)
            self.clock.advance(0.2)
            self.assertEqual(self.tries("a"), before + 1)


class StopTests(FailoverCase):
    """A stop leaves nothing behind."""

    def test_stop(self) -> None:
        """Links are closed and waited for; tries, pauses and waiters end."""
        self.failover.start()
        link = self.up("a")
        self.down("b")
        stopping = Deferred.fromCoroutine(self.failover.stop())
        self.assertTrue(link.closed)
        self.assertNoResult(stopping)
        link.gone.callback("closed by us")
        self.assertIsNone(self.successResultOf(stopping))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.failover.status().state, "stopped")
        self.failureResultOf(self.use(), DialError)

    def test_stop_while_connecting(self) -> None:
        """A try that is under way is cancelled, and who waits for it is told."""
        self.failover.start()
        using = self.use()
        stopping = Deferred.fromCoroutine(self.failover.stop())
        self.assertIsNone(self.successResultOf(stopping))
        self.assertIn("is stopped", str(self.failureResultOf(using, DialError).value))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StatusTests(FailoverCase):
    """How it is."""

    def test_status(self) -> None:
        """What is connected, what was lost and why."""
        self.failover.start()
        self.assertEqual(self.failover.status().state, "connecting")
        self.up("a")
        self.down("b", "no route")
        status = self.failover.status()
        self.assertEqual((status.state, status.in_use, status.last_error), ("up", "a", "no route"))
        first, second = status.instances
        self.assertEqual((first.state, first.sessions, second.state), ("connected", 1, "lost"))

    def test_down(self) -> None:
        """All lost."""
        self.failover.start()
        self.down("a")
        self.down("b")
        status = self.failover.status()
        self.assertEqual((status.state, status.in_use), ("down", None))
