"""Tests for L{proxyd.ssh.lanes}: connections that obey the test."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import DialError, DialFailure
from proxyd.ssh import lanes as module
from proxyd.ssh.lanes import Lanes
from proxyd.ssh.refusals import NoRoom
from proxyd.target import Target

BOX = Target("box.example", 5432)


class FakeLane:
    """One connection."""

    def __init__(self) -> None:
        self.gone: Deferred[str] = Deferred()
        self.count = 0
        self.saturated_since: float | None = None
        self.problem: DialError | None = None
        self.hangs = False
        self.suspected = 0
        self.disconnected = False

    def open(self, target: Target, source: str, factory: object) -> Deferred[Any]:
        """A channel, or not."""
        if self.hangs:
            return Deferred()
        if self.problem is not None:
            return fail(self.problem)
        self.count += 1
        return succeed(Protocol())

    def suspect(self) -> None:
        """Somebody waits in vain."""
        self.suspected += 1

    def disconnect(self) -> None:
        """Hang up."""
        self.disconnected = True
        self.gone.callback("closed by us")


class LanesCase(SynchronousTestCase):
    """One connection at first; others are made when the test says so."""

    wanted = 1

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[Deferred[FakeLane]] = []
        self.first = FakeLane()
        self.lanes = Lanes(self.first, self.connect, self.clock, self.wanted)  # type: ignore[arg-type]

    async def connect(self) -> Any:
        """Another connection is wanted."""
        asked: Deferred[FakeLane] = Deferred()
        self.asked.append(asked)
        return await asked

    def another(self) -> FakeLane:
        """It is made."""
        lane = FakeLane()
        self.asked[-1].callback(lane)
        return lane

    def open(self) -> Deferred[Any]:
        """Ask for a channel."""
        return Deferred.fromCoroutine(self.lanes.open(BOX, "", Factory()))


class GrowTests(LanesCase):
    """When one connection is not enough."""

    def test_one_is_enough(self) -> None:
        """As a rule."""
        for _ in range(module.CROWD):
            self.successResultOf(self.open())
        self.assertEqual((self.asked, self.lanes.sessions), ([], 1))
        self.assertEqual(self.lanes.streams, module.CROWD)

    def test_crowd(self) -> None:
        """A crowd has another made, without anybody waiting for it, and goes there then."""
        self.first.count = module.CROWD
        self.successResultOf(self.open())
        self.successResultOf(self.open())
        self.assertEqual(len(self.asked), 1)
        other = self.another()
        self.successResultOf(self.open())
        self.assertEqual((other.count, self.lanes.sessions), (1, 2))

    def test_saturated(self) -> None:
        """So has one that takes no more bytes for a while."""
        self.first.saturated_since = 0.0
        self.clock.advance(0.5)
        self.successResultOf(self.open())
        self.assertEqual(self.asked, [])
        self.clock.advance(1.0)
        self.successResultOf(self.open())
        self.assertEqual(len(self.asked), 1)

    def test_no_room(self) -> None:
        """A server without room in one is asked in another, and who asked waits for that."""
        self.first.problem = NoRoom(DialFailure.BROKEN, "no room")
        opening = self.open()
        self.assertNoResult(opening)
        self.another()
        self.successResultOf(opening)

    def test_no_room_at_all(self) -> None:
        """Where no other can be made, that is the answer."""
        self.first.problem = NoRoom(DialFailure.BROKEN, "no room")
        opening = self.open()
        self.asked[-1].errback(OSError("refused"))
        self.failureResultOf(opening, NoRoom)
        self.assertEqual(self.lanes.sessions, 1)

    def test_limit(self) -> None:
        """There are never more than a few."""
        for _ in range(10):
            for lane in self.lanes._lanes:
                lane.count = module.CROWD
            self.successResultOf(self.open())
            if self.asked and not self.asked[-1].called:
                self.another()
        self.assertEqual(self.lanes.sessions, module.MOST)

    def test_suspicion(self) -> None:
        """A server that takes long to answer is asked whether it lives, once."""
        self.first.hangs = True
        opening = self.open()
        opening.addErrback(lambda _: None)
        self.clock.advance(module.SUSPICION_SECONDS)
        self.clock.advance(60.0)
        self.assertEqual(self.first.suspected, 1)
        opening.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class EndTests(LanesCase):
    """Lost when the last is lost."""

    def test_lost(self) -> None:
        """One of two is lost: the other goes on. Both: gone."""
        self.first.count = module.CROWD
        self.successResultOf(self.open())
        other = self.another()
        self.first.gone.callback("cut off")
        self.assertNoResult(self.lanes.gone)
        self.successResultOf(self.open())
        other.gone.callback("cut off, too")
        self.assertEqual(self.successResultOf(self.lanes.gone), "cut off, too")

    def test_close(self) -> None:
        """A close hangs up on all, and gives up one that is being made."""
        self.first.count = module.CROWD
        self.successResultOf(self.open())
        self.lanes.close()
        self.assertTrue(self.first.disconnected)
        self.assertEqual(self.successResultOf(self.lanes.gone), "closed by us")
        self.assertEqual(self.lanes.sessions, 0)


class SeveralTests(LanesCase):
    """Several are wanted from the start."""

    wanted = 3

    def test_several(self) -> None:
        """They are made one after the other, and each new channel goes where the fewest are."""
        self.another()
        self.another()
        self.assertEqual((len(self.asked), self.lanes.sessions), (2, 3))
        for _ in range(6):
            self.successResultOf(self.open())
        self.assertEqual([lane.count for lane in self.lanes._lanes], [2, 2, 2])
