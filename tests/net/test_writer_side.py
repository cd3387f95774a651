"""Tests for L{proxyd.net.writer_side}; the streams built upon it run the conformance suite."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from proxyd.net.writer_side import HIGH_WATER, WriterSide
from proxyd.target import Target


class Side(WriterSide):
    """One that counts how often all was written."""

    written = 0

    def _all_written(self) -> None:
        """Count."""
        self.written += 1


@implementer(IPushProducer)
class Writer:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        """Noted."""
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """Noted."""
        self.told.append("resume")

    def stopProducing(self) -> None:
        """Noted."""
        self.told.append("stop")


class WriterSideTests(SynchronousTestCase):
    """Who writes, and when it is told to wait."""

    def setUp(self) -> None:
        self.side: Any = Side(Target("db.internal", 5432))
        self.writer = Writer()

    def test_addresses(self) -> None:
        """The peer is the target by its name; our own address is not known."""
        self.assertEqual(
            (self.side.getPeer().hostname, self.side.getPeer().port), (b"db.internal", 5432)
        )
        self.assertEqual(self.side.getHost().port, 0)

    def test_full_already(self) -> None:
        """A writer that comes when much waits is paused at once, and once."""
        self.side.pending = HIGH_WATER + 1
        self.side.registerProducer(self.writer, True)
        self.side._pause_writer()
        self.assertEqual(self.writer.told, ["pause"])
        self.side._resume_writer()
        self.assertEqual(self.writer.told, ["pause", "resume"])

    def test_one_writer(self) -> None:
        """There is one at a time; when it is done, what was put off is done."""
        self.side.registerProducer(self.writer, True)
        self.assertRaises(RuntimeError, self.side.registerProducer, Writer(), True)
        self.side.unregisterProducer()
        self.assertEqual(self.side.written, 1)
        self.side.registerProducer(Writer(), True)

    def test_too_late(self) -> None:
        """Who comes when all is over is sent away."""
        self.side._over = True
        self.side.registerProducer(self.writer, True)
        self.assertEqual(self.writer.told, ["stop"])
