"""Tests for L{proxyd.services.ordered}."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from proxyd.services.ordered import OrderedService


class Noted(Service):
    """A service that notes what it is told, and stops when the test says so."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes
        self.stopped: Deferred[None] = Deferred()

    def startService(self) -> None:
        self.running = 1
        self.notes.append(f"start {self.name}")

    def stopService(self) -> Deferred[None]:
        self.running = 0
        self.notes.append(f"stop {self.name}")
        return self.stopped


class Failing(Noted):
    """A service whose start fails."""

    def startService(self) -> None:
        raise OSError("port taken")


class OrderedServiceTests(SynchronousTestCase):
    """Services start from the ground up and stop from the top down."""

    def setUp(self) -> None:
        self.notes: list[str] = []
        self.ordered = OrderedService()

    def add(self, *services: Noted) -> None:
        """Put services in, the lowest first."""
        for service in services:
            service.setServiceParent(self.ordered)

    def test_start(self) -> None:
        """The first that was added starts first."""
        self.add(Noted("store", self.notes), Noted("pool", self.notes))
        self.ordered.startService()
        self.assertEqual(self.notes, ["start store", "start pool"])
        self.assertTrue(self.ordered.running)

    def test_stop_awaits_each(self) -> None:
        """A service is only told to stop when all above it have stopped."""
        store, pool = Noted("store", self.notes), Noted("pool", self.notes)
        self.add(store, pool)
        self.ordered.startService()
        del self.notes[:]
        stopping = self.ordered.stopService()
        self.assertEqual(self.notes, ["stop pool"])
        self.assertNoResult(stopping)
        pool.stopped.callback(None)
        self.assertEqual(self.notes, ["stop pool", "stop store"])
        self.assertNoResult(stopping)
        store.stopped.callback(None)
        self.assertIsNone(self.successResultOf(stopping))

    def test_stop_goes_on_after_a_failure(self) -> None:
        """A service that fails to stop is logged, and the one below is stopped all the same."""
        store, pool = Noted("store", self.notes), Noted("pool", self.notes)
        self.add(store, pool)
        self.ordered.startService()
        stopping = self.ordered.stopService()
        pool.stopped.errback(ValueError("stuck"))
        store.stopped.callback(None)
        self.assertIsNone(self.successResultOf(stopping))
        self.assertEqual(self.notes[2:], ["stop pool", "stop store"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_cancelled_is_not_logged(self) -> None:
        """A stop that ends by a cancel is a stop like any other."""
        pool = Noted("pool", self.notes)
        pool.stopped = fail(CancelledError())
        self.add(pool)
        self.ordered.startService()
        self.successResultOf(self.ordered.stopService())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_failed_start(self) -> None:
        """A failed start is told, starts nothing above, and only what runs is stopped later."""
        store = Noted("store", self.notes)
        store.stopped.callback(None)
        self.add(store, Failing("port", self.notes), Noted("web", self.notes))
        self.assertRaises(OSError, self.ordered.startService)
        self.assertEqual(self.notes, ["start store"])
        self.successResultOf(self.ordered.stopService())
        self.assertEqual(self.notes, ["start store", "stop store"])
