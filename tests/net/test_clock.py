"""Tests for L{proxyd.net.clock}."""

from __future__ import annotations

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, LoopingCall
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.net.clock import WallClock, hour, keep_steady, since_boot

HOUR = 3600.0


class Hands:
    """Two clocks: one that people set, and one that only goes on."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.passed = 77.0

    def go(self, seconds: float) -> None:
        """Time passes."""
        self.wall += seconds
        self.passed += seconds


class SteadyTests(SynchronousTestCase):
    """A reactor whose time nobody sets."""

    def setUp(self) -> None:
        self.hands = Hands()
        self.reactor = EPollReactor()  # type: ignore[no-untyped-call]
        keep_steady(self.reactor, lambda: self.hands.wall, lambda: self.hands.passed)

    def test_hour(self) -> None:
        """It is the epoch's still, and goes on as time does."""
        self.assertEqual(self.reactor.seconds(), 1_800_000_000.0)
        self.hands.go(5.0)
        self.assertEqual(self.reactor.seconds(), 1_800_000_005.0)

    def test_set_back(self) -> None:
        """What was to end in ten seconds ends in ten seconds, whatever people do to the clock."""
        fired: list[str] = []
        self.reactor.callLater(10.0, fired.append, "over")
        self.hands.wall -= HOUR
        self.hands.go(9.9)
        self.reactor.runUntilCurrent()
        self.assertEqual(fired, [])
        self.hands.go(0.2)
        self.reactor.runUntilCurrent()
        self.assertEqual(fired, ["over"])

    def test_set_forward(self) -> None:
        """Nor does anything end early."""
        fired: list[str] = []
        self.reactor.callLater(10.0, fired.append, "over")
        self.hands.wall += HOUR
        self.hands.go(9.9)
        self.reactor.runUntilCurrent()
        self.assertEqual(fired, [])
        self.assertAlmostEqual(self.reactor.timeout(), 0.1, 5)

    def test_looping_calls(self) -> None:
        """What runs each second runs each second."""
        ticks: list[float] = []
        looping = LoopingCall(lambda: ticks.append(self.reactor.seconds()))
        looping.clock = self.reactor
        looping.start(1.0)
        self.hands.wall -= HOUR
        for _ in range(3):
            self.hands.go(1.0)
            self.reactor.runUntilCurrent()
        looping.stop()
        self.assertEqual(len(ticks), 4)


class RealTests(SynchronousTestCase):
    """The clocks of this machine."""

    def test_calls_made_before(self) -> None:
        """A timed call that was made before is due at the same time as after."""
        reactor = EPollReactor()  # type: ignore[no-untyped-call]
        early = reactor.callLater(100.0, lambda: None)
        keep_steady(reactor)
        self.assertLess(abs(early.getTime() - reactor.seconds() - 100.0), 60.0)
        self.assertLess(abs(reactor.seconds() - hour()), 60.0)
        early.cancel()

    def test_wall_clock(self) -> None:
        """The system's hour, and the reactor's time for what is to be done later."""
        clock = Clock()
        wall = WallClock(clock)
        self.assertTrue(verifyObject(IReactorTime, wall))
        self.assertLess(abs(wall.seconds() - hour()), 60.0)
        done: list[str] = []
        call = wall.callLater(5.0, done.append, "x")
        self.assertEqual(list(wall.getDelayedCalls()), [call])
        clock.advance(5.0)
        self.assertEqual(done, ["x"])

    def test_since_boot(self) -> None:
        """It never goes back."""
        before = since_boot()
        self.assertGreaterEqual(since_boot(), before)
