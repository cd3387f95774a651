"""A peer that never stops sending does not hold up the others (68)."""

from __future__ import annotations

import random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.end import End
from proxyd.net.line import CHUNK, TALK_CHUNK
from proxyd.net.relay import join
from tests.postgres.memory import MemoryLink, Network, Wire

FLOOD = 4 << 20


class Listening:
    """A subject that notes in whose turn it was told something."""

    def __init__(self) -> None:
        self.heard: list[tuple[End, int]] = []

    def received(self, end: End, data: bytes) -> None:
        """Bytes came."""
        self.heard.append((end, len(data)))

    def alerted(self, end: End) -> None:
        """Nothing is asked for."""

    def finished(self, end: End) -> None:
        """It ends."""

    def gone(self, end: End, reason: str) -> None:
        """It is lost."""


class FairnessTests(SynchronousTestCase):
    """Each ready socket is served once a round, with one read."""

    def setUp(self) -> None:
        """Have a link on a network in memory."""
        self.network = Network(random.Random(68))
        self.link = MemoryLink(self.network, Clock(), 5.0)
        self.addCleanup(self.link.stop)
        self.subject = Listening()

    def end(self, waiting: int) -> tuple[End, Wire]:
        """An End with so many bytes that wait to be read, and its peer."""
        ours, theirs = Wire(self.network, FLOOD), Wire(self.network, FLOOD)
        ours.peer, theirs.peer = theirs, ours
        end = End(self.link, ours, None, self.subject)  # type: ignore[arg-type]
        ours.here += bytes(waiting)
        ours.fresh = True
        return end, theirs

    def test_talking(self) -> None:
        """A flood of one is read a chunk at a time, and all others between."""
        flood, _ = self.end(FLOOD)
        others = [self.end(1)[0] for _ in range(20)]
        self.link.doRead()
        first = [end for end, _ in self.subject.heard[: len(others) + 1]]
        self.assertEqual(set(first), {flood, *others})
        self.assertEqual({size for _, size in self.subject.heard}, {1, TALK_CHUNK})

    def test_joined(self) -> None:
        """The same where the flood is carried to somebody."""
        flood, _ = self.end(FLOOD)
        sink, reader = self.end(0)
        join(flood, sink, self.subject, None, None)
        others = [self.end(1)[0] for _ in range(20)]
        carried: list[int] = []
        self.subject.received = lambda end, data: carried.append(flood.received)  # type: ignore[method-assign]
        self.link.doRead()
        self.assertEqual(len(carried), len(others))
        self.assertLessEqual(max(carried), CHUNK)
        self.assertGreater(len(reader.coming), CHUNK)
