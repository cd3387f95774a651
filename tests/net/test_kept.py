"""Tests for L{proxyd.net.kept}: small messages are sent at the end of a round."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.end import End
from proxyd.net.relay import join
from tests.net.peers import Recorder
from tests.postgres.memory import MemoryLink, Network, Wire

WIDE = 1 << 16
MANY = b"m" * 5000


class LoggedWire(Wire):
    """A socket that writes down, with its name, what it is asked for."""

    name = ""
    log: list[str]

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As recv(2)."""
        self.log.append(f"{self.name} received")
        return super().recv(size, flags)

    def send(self, data: bytes | memoryview) -> int:
        """As send(2)."""
        self.log.append(f"{self.name} sent {bytes(data[:8]).decode()}")
        return super().send(data)


class OrderedNetwork(Network):
    """Shows the sockets that are ready in the order in which they were made, so many at a time."""

    def poll(self, seconds: float, most: int) -> list[tuple[int, int]]:
        """The sockets that have something to say."""
        return sorted(super().poll(seconds, most))[:most]


class KeptTests(SynchronousTestCase):
    """Few bytes of joined Ends, and what may happen to them before a round is over."""

    def setUp(self) -> None:
        """Two sessions: the first one's server is shown before the second one's client."""
        self.network = OrderedNetwork(random.Random(1))
        self.link = MemoryLink(self.network, Clock(), 5.0)
        self.addCleanup(self.link.stop)
        self.subject = Recorder()
        self.log: list[str] = []
        self.server1, self.server1_far = self.end("server1")
        self.client1, self.client1_far = self.end("client1")
        self.client2, self.client2_far = self.end("client2")
        self.server2, self.server2_far = self.end("server2")
        join(self.client1, self.server1, self.subject, None, None)
        join(self.client2, self.server2, self.subject, None, None)

    def end(self, name: str, room: int = WIDE) -> tuple[End, Wire]:
        """An End, and the socket at its far end, to which so many bytes fit."""
        ours, theirs = LoggedWire(self.network, WIDE), Wire(self.network, room)
        ours.peer, theirs.peer = theirs, ours
        ours.name, ours.log = name, self.log
        return End(self.link, ours, None, self.subject), theirs  # type: ignore[arg-type]

    def bring(self, *sends: tuple[Wire, bytes]) -> None:
        """Have bytes arrive from far ends, all in one round; the link serves them."""
        for far, data in sends:
            far.send(data)
            far.peer.arrive(len(data))
        self.link.doRead()

    def come(self, far: Wire) -> bytes:
        """What has been sent to a far end."""
        return bytes(far.coming + far.here)

    def test_order(self) -> None:
        """All is read before anything is sent, and requests are sent before answers."""
        self.bring((self.server1_far, b"answer"), (self.client2_far, b"request"))
        self.assertEqual(
            self.log,
            ["server1 received", "client2 received", "server2 sent request", "client1 sent answer"],
        )
        self.assertEqual((self.link.kept.requests, self.link.kept.answers), ([], []))

    def test_rounds(self) -> None:
        """With a crowd there are several rounds: nobody waits until all of it was read."""
        answers = []
        for number in range(200):
            client, _ = self.end(f"client {number}")
            server, far = self.end(f"server {number}")
            join(client, server, self.subject, None, None)
            answers.append((far, b"answer"))
        self.bring(*answers)
        self.assertEqual(len(self.log), 400)
        self.assertLess(self.log.index("client 0 sent answer"), 100)

    def test_many(self) -> None:
        """More than a few bytes are sent on at once."""
        self.bring((self.server1_far, MANY), (self.client2_far, MANY))
        self.assertEqual(
            self.log,
            [
                "server1 received",
                "client1 sent mmmmmmmm",
                "client2 received",
                "server2 sent mmmmmmmm",
            ],
        )

    def test_slow(self) -> None:
        """Where not all fits, the one it comes from is not read until the rest is sent."""
        self.client1_far.capacity = 4
        self.bring((self.server1_far, b"answer"))
        self.assertEqual((self.come(self.client1_far), self.client1.pending), (b"answ", 2))
        self.bring((self.server1_far, b" and more"))
        self.assertEqual(self.server1.received, 6)
        self.client1_far.capacity = WIDE
        self.link.doRead()
        self.link.doRead()
        self.assertEqual(self.come(self.client1_far), b"answer and more")

    def test_full(self) -> None:
        """The same where nothing fits."""
        self.client1_far.capacity = 0
        self.bring((self.server1_far, b"answer"))
        self.assertEqual(self.client1.pending, 6)
        self.client1_far.capacity = WIDE
        self.link.doRead()
        self.assertEqual((self.come(self.client1_far), self.client1.pending), (b"answer", 0))

    def test_lost(self) -> None:
        """
        Who is lost by the send is told of once, and whatever comes of that, the
        others of the round have their bytes.
        """

        def gone(end: End, reason: str) -> None:
            lost.append((end, reason))
            raise ZeroDivisionError

        lost: list[tuple[End, str]] = []
        self.subject.gone = gone  # type: ignore[method-assign]
        self.client1_far.reset()
        self.client1_far.peer.broken = False
        # It is paused, so that the reset is not learnt by reading.
        self.client1.pause()
        self.bring((self.server1_far, b"answer"), (self.server2_far, b"another"))
        self.assertEqual(lost, [(self.client1, "Connection reset by peer")])
        self.assertEqual(self.come(self.client2_far), b"another")
        self.assertEqual((self.client1.closed, self.server1.closed), (True, False))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_deaf(self) -> None:
        """Nothing more is read for one to whom nothing can be sent; what it says still is."""
        for answer in (b"answer", MANY):
            self.server1, self.server1_far = self.end("server")
            self.client1, self.client1_far = self.end("client")
            join(self.client1, self.server1, self.subject, None, None)
            self.client1_far.peer.finished = True
            self.bring((self.server1_far, answer))
            self.bring((self.server1_far, b"more"), (self.client1_far, b"request"))
            self.assertEqual(self.server1.received, len(answer))
            self.assertEqual(self.come(self.server1_far), b"request")

    def test_bug(self) -> None:
        """A bug in a way to send ends the one whose it is; the others have their bytes."""

        def fail(data: bytes | memoryview) -> int:
            raise ZeroDivisionError

        self.server1_far.peer.send = fail  # type: ignore[method-assign]
        for number in (b"1", b"2"):
            self.bring((self.client1_far, b"request"), (self.client2_far, number))
        self.assertEqual(self.come(self.server2_far), b"12")
        self.assertEqual(self.subject.events, [(self.server1, "gone: internal error")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_write_while_sending(self) -> None:
        """What a way to send has somebody write meanwhile goes behind."""
        wire = self.client1_far.peer
        send = wire.send

        def answering(data: bytes | memoryview) -> int:
            wire.send = send  # type: ignore[method-assign]
            self.client1.write(b", written")
            return send(data)

        wire.send = answering  # type: ignore[method-assign]
        self.bring((self.server1_far, b"answer"))
        self.link.doRead()
        self.assertEqual(self.come(self.client1_far), b"answer, written")

    def test_end_behind_a_backlog(self) -> None:
        """A peer that sends no more, and reads nothing, is told of once while last words wait."""
        self.client1_far.capacity = 0
        self.client1.close(b"bye")
        self.client1_far.shutdown(0)
        self.client1_far.peer.arrive(0)
        self.link.doRead()
        self.assertEqual(self.network.poll(0, 100), [])
        self.client1_far.capacity = WIDE
        self.link.doRead()
        self.assertEqual(self.come(self.client1_far), b"bye")

    def in_the_round(self, work: Callable[[], object]) -> None:
        """An answer for the first client comes; before its round is over, something is done."""

        def now(end: End, data: bytes) -> None:
            work()

        talker, far = self.end("talker")
        self.subject.on_received = now
        self.bring((self.server1_far, b"answer"), (far, b"now"))
        self.assertIn(talker, self.subject.data)

    def test_write(self) -> None:
        """What is written goes behind."""
        self.in_the_round(lambda: self.client1.write(b", written"))
        self.assertEqual(self.come(self.client1_far), b"answer, written")

    def test_carry(self) -> None:
        """So does what is carried; and the one it comes from is read again."""
        self.in_the_round(lambda: self.server1.carry(b", carried"))
        self.link.doRead()
        self.assertEqual(self.come(self.client1_far), b"answer, carried")
        self.bring((self.server1_far, b", more"))
        self.assertEqual(self.come(self.client1_far), b"answer, carried, more")

    def test_close(self) -> None:
        """Last words go behind, then comes the end."""
        self.in_the_round(lambda: self.client1.close(b", bye"))
        self.link.doRead()
        self.assertEqual(self.come(self.client1_far), b"answer, bye")
        self.assertTrue(self.client1_far.fin_coming)

    def test_finish(self) -> None:
        """The end of the sending is told when they are sent."""
        told: list[bytes] = []
        self.in_the_round(
            lambda: self.client1.finish(lambda: told.append(self.come(self.client1_far)))
        )
        self.assertEqual(told, [b"answer"])
        self.assertTrue(self.client1_far.fin_coming)

    def test_abort(self) -> None:
        """Nothing is sent to one that is closed by a reset."""
        self.in_the_round(self.client1.abort)
        self.assertEqual(self.come(self.client1_far), b"")
        self.assertNotIn("client1 sent", " ".join(self.log))

    def test_part(self) -> None:
        """Parted, it still has them to send."""
        self.in_the_round(lambda: self.client1.part(self.subject))
        self.assertEqual(self.come(self.client1_far), b"answer")

    def test_join(self) -> None:
        """Joined to another, that one waits no longer than they do."""

        def join_anew() -> None:
            self.client1.part(self.subject)
            self.server2.part(self.subject)
            join(self.client1, self.server2, self.subject, None, None)

        self.in_the_round(join_anew)
        self.assertEqual(self.come(self.client1_far), b"answer")
        self.bring((self.server2_far, b", another"))
        self.link.doRead()
        self.assertEqual(self.come(self.client1_far), b"answer, another")
