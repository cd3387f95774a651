"""Tests for L{proxyd.net.turns} and for how a link and a reactor share a wait: real sockets."""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.end import End
from proxyd.net.link import Link
from proxyd.net.relay import join
from proxyd.net.turns import can_be_led
from tests.net.peers import Recorder, tcp_pair

TURNS = 200
"""No promise here takes so many turns."""


class Descriptor:
    """A socket of the reactor's own that counts its bytes."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.heard = b""

    def fileno(self) -> int:
        """The near end."""
        return self.near.fileno()

    def logPrefix(self) -> str:
        """The name in the log."""
        return "descriptor"

    def doRead(self) -> None:
        """Hear what was said."""
        self.heard += self.near.recv(100)

    def connectionLost(self, reason: object) -> None:
        """Nothing to do."""


class SharedWaitCase(SynchronousTestCase):
    """A reactor of the test's own, on which links are started."""

    def reactor(self) -> Any:
        """Make the reactor."""
        return EPollReactor()  # type: ignore[no-untyped-call]

    def setUp(self) -> None:
        self.own = self.reactor()
        self.subject = Recorder()
        self.theirs = Descriptor()
        self.addCleanup(self.theirs.near.close)
        self.addCleanup(self.theirs.far.close)
        self.own.addReader(self.theirs)
        self.addCleanup(self.own.removeAll)

    def link(self) -> Link:
        """A link that is started."""
        link = Link(self.own, Clock(), 5.0)
        link.start()
        self.addCleanup(link.stop)
        return link

    def end(self, link: Link) -> tuple[End, socket.socket]:
        """An End, and the socket at its far end."""
        near, far = tcp_pair()
        self.addCleanup(far.close)
        return End(link, near, None, self.subject), far

    def turn_until(self, done: Any) -> None:
        """Turn the reactor, each time waiting until there is something."""
        for _ in range(TURNS):
            if done():
                return
            self.own.doIteration(10.0)
        self.fail("it did not come")


class EPollTests(SharedWaitCase):
    """Twisted's epoll reactor waits by the link."""

    def test_both_served(self) -> None:
        """Ends are served, and the reactor's own descriptors too."""
        link = self.link()
        self.assertFalse(can_be_led(self.own))
        self.assertNotIn(link, self.own.getReaders())
        end, far = self.end(link)
        for round_ in range(3):
            far.sendall(b"x")
            self.theirs.far.sendall(b"y")
            self.turn_until(
                lambda most=round_ + 1: (
                    len(self.subject.data.get(end, b"")) == len(self.theirs.heard) == most
                )
            )

    def test_crowd(self) -> None:
        """However busy the Ends are, the reactor's own descriptors are served."""
        link = self.link()
        end, far = self.end(link)
        self.subject.on_received = lambda end, data: far.sendall(b"x")
        far.sendall(b"x")
        self.turn_until(lambda: len(self.subject.data.get(end, b"")) > 3)
        self.theirs.far.sendall(b"y")
        self.turn_until(lambda: self.theirs.heard)
        self.assertEqual(self.theirs.heard, b"y")

    def test_nothing(self) -> None:
        """A wait ends when its time is over; one of no time does not wait."""
        self.link()
        self.own.doIteration(0.001)
        self.own.doIteration(0)
        self.own.doIteration(False)

    def test_woken(self) -> None:
        """A wait without end is ended by another thread."""
        self.link()
        self.own.installWaker()
        called: list[str] = []
        thread = threading.Thread(target=self.own.callFromThread, args=(called.append, "called"))
        thread.start()
        self.own.doIteration(None)
        thread.join()
        self.own.runUntilCurrent()
        self.assertEqual(called, ["called"])

    def test_two_links(self) -> None:
        """A second link is one of the reactor's own descriptors; both are served."""
        first, second = self.link(), self.link()
        one, one_far = self.end(first)
        other, other_far = self.end(second)
        one_far.sendall(b"x")
        other_far.sendall(b"y")
        self.turn_until(lambda: len(self.subject.data) == 2)
        self.assertEqual(self.subject.data, {one: b"x", other: b"y"})
        self.assertIn(second, self.own.getReaders())
        first.stop()
        other_far.sendall(b"z")
        self.turn_until(lambda: self.subject.data[other] == b"yz")

    def test_stop(self) -> None:
        """After its stop, by a subject in the midst of a turn, the reactor waits by itself."""
        link = self.link()
        _, far = self.end(link)
        self.subject.on_received = lambda end, data: link.stop()
        far.sendall(b"x")
        self.turn_until(lambda: link.fileno() == -1)
        self.theirs.far.sendall(b"y")
        self.turn_until(lambda: self.theirs.heard)
        self.assertNotIn(link, self.own.getReaders())
        self.assertNotIn("doIteration", vars(self.own))

    def test_ends_counted(self) -> None:
        """The reactor's own epoll is no End."""
        link = self.link()
        self.assertEqual(link.ends, 0)
        self.end(link)
        self.assertEqual(link.ends, 1)

    def test_others_first(self) -> None:
        """Only after few bytes were sent to several, others are let run before the next round."""
        yielded: list[bool] = []
        self.patch(os, "sched_yield", lambda: yielded.append(True))
        link = self.link()
        near, far = zip(*(self.end(link) for _ in range(4)), strict=True)
        join(near[0], near[1], self.subject, None, None)
        join(near[2], near[3], self.subject, None, None)
        far[0].sendall(b"x")
        self.turn_until(lambda: near[1].sent)
        self.own.doIteration(0)
        self.assertEqual(yielded, [])
        for client in (0, 2):
            far[client].sendall(b"y")
            self.assertTrue(select.select([near[client]._fd], [], [], 10.0)[0])
        self.own.doIteration(10.0)
        self.assertEqual((near[1].sent, near[3].sent), (2, 1))
        self.assertEqual(yielded, [True])
        self.own.doIteration(0)
        self.own.doIteration(0)
        self.assertEqual(yielded, [True])


class OtherReactorTests(SharedWaitCase):
    """Any other reactor watches the link's epoll as a descriptor of its own."""

    def reactor(self) -> Any:
        """One without an epoll."""
        return SelectReactor()  # type: ignore[no-untyped-call]

    def test_watched(self) -> None:
        """Ends are served, and the reactor's own descriptors too; the link tells its name."""
        self.assertFalse(can_be_led(self.own))
        link = self.link()
        self.assertIn(link, self.own.getReaders())
        self.assertEqual(link.logPrefix(), "link")
        end, far = self.end(link)
        far.sendall(b"x")
        self.theirs.far.sendall(b"y")
        self.turn_until(lambda: self.subject.data.get(end) and self.theirs.heard)
        link.connectionLost(None)
        link.stop()
        self.assertNotIn(link, self.own.getReaders())

    def test_led_by_another(self) -> None:
        """Whose wait is another's already is not led again; one without the name never."""
        led = EPollReactor()  # type: ignore[no-untyped-call]
        self.assertTrue(can_be_led(led))
        led.doIteration = led.doPoll
        self.assertFalse(can_be_led(led))
        other = EPollReactor()  # type: ignore[no-untyped-call]
        del other._poller
        self.assertFalse(can_be_led(other))
