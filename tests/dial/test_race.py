"""Tests for L{proxyd.dial.race}, with attempts that end when the test says so."""

from __future__ import annotations

import errno
import socket

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.dial.race import STAGGER, Race, interleaved
from proxyd.errors import DialError, DialFailure
from proxyd.net.resolver import Address

FOUR, SIX = socket.AF_INET, socket.AF_INET6
REFUSED = OSError(errno.ECONNREFUSED, "")


class RaceTests(SynchronousTestCase):
    """Who is tried when, and who wins."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.attempts: dict[str, Deferred[str]] = {}
        self.given_up: list[str] = []

    def attempt(self, address: Address) -> Deferred[str]:
        """One that hangs until the test ends it."""
        host = address.host
        self.attempts[host] = Deferred(lambda _: self.given_up.append(host))
        return self.attempts[host]

    def race(self, *hosts: str) -> Deferred[str]:
        """Try these."""
        addresses = [Address(SIX if ":" in host else FOUR, host, 5432) for host in hosts]
        return Race(self.clock, addresses, self.attempt).run()

    def test_first(self) -> None:
        """The first that answers in time is the only one tried; no timed call is left."""
        running = self.race("192.0.2.1", "192.0.2.2")
        self.attempts["192.0.2.1"].callback("made")
        self.assertEqual(self.successResultOf(running), "made")
        self.assertEqual((list(self.attempts), self.clock.getDelayedCalls()), (["192.0.2.1"], []))

    def test_stagger(self) -> None:
        """Silence brings the next; whoever wins, the others are given up."""
        running = self.race("192.0.2.1", "2001:db8::1", "192.0.2.2")
        self.clock.advance(STAGGER)
        self.clock.advance(STAGGER)
        self.assertEqual(list(self.attempts), ["192.0.2.1", "2001:db8::1", "192.0.2.2"])
        self.attempts["2001:db8::1"].callback("made")
        self.assertEqual(self.successResultOf(running), "made")
        self.assertEqual(self.given_up, ["192.0.2.1", "192.0.2.2"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failures(self) -> None:
        """A failure brings the next at once; when all have failed, all is told."""
        running = self.race("192.0.2.1", "192.0.2.2")
        self.attempts["192.0.2.1"].errback(REFUSED)
        self.attempts["192.0.2.2"].errback(OSError(errno.EHOSTUNREACH, ""))
        problem = self.failureResultOf(running, DialError).value
        self.assertIs(problem.failure, DialFailure.REFUSED)
        self.assertIn("192.0.2.1:5432; 192.0.2.2:5432: no route to host", problem.detail)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_once(self) -> None:
        """Attempts that end before they are waited for."""
        ends = iter((fail(REFUSED), fail(REFUSED), succeed("made")))
        addresses = [Address(FOUR, f"192.0.2.{n}", 1) for n in range(4)]
        running = Race(self.clock, addresses, lambda _: next(ends)).run()
        self.assertEqual(self.successResultOf(running), "made")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancel(self) -> None:
        """Cancelled, all attempts are."""
        running = self.race("192.0.2.1", "192.0.2.2", "192.0.2.3")
        self.clock.advance(STAGGER)
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertEqual(self.given_up, ["192.0.2.1", "192.0.2.2"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_families_take_turns(self) -> None:
        """A family that goes nowhere costs one turn."""
        six = [Address(SIX, f"2001:db8::{n}", 1) for n in range(3)]
        four = [Address(FOUR, f"192.0.2.{n}", 1) for n in range(2)]
        expected = [six[0], four[0], six[1], four[1], six[2]]
        self.assertEqual(interleaved([*six, *four]), expected)
        self.assertEqual(interleaved(four), four)
        self.assertEqual(interleaved([]), [])
