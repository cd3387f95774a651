"""Tests for L{proxyd.ssh.pulse}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.times import PulseTimes
from proxyd.ssh.pulse import Heart


class HeartTests(SynchronousTestCase):
    """A peer that is silent is asked, and one that does not answer is dead."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[float] = []
        self.dead: list[str] = []
        self.heart = Heart(
            PulseTimes(interval=15.0, patience=10.0),
            self.clock,
            lambda: self.asked.append(self.clock.seconds()),
            self.dead.append,
        )
        self.heart.start()

    def pass_by(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.pump([1.0] * seconds)

    def test_silence(self) -> None:
        """Silent for the interval: asked. Silent still: dead, once."""
        self.pass_by(14)
        self.assertEqual(self.asked, [])
        self.pass_by(1)
        self.assertEqual(self.asked, [15.0])
        self.pass_by(9)
        self.assertEqual(self.dead, [])
        self.pass_by(1)
        self.assertEqual(len(self.dead), 1)
        self.pass_by(100)
        self.assertEqual((len(self.asked), len(self.dead)), (1, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_any_byte_is_an_answer(self) -> None:
        """Who says anything at all is alive, and is asked again later."""
        self.pass_by(20)
        self.heart.heard_at = self.clock.seconds()
        self.pass_by(14)
        self.assertEqual((self.asked, self.dead), ([15.0], []))
        self.pass_by(2)
        self.assertEqual(len(self.asked), 2)
        self.pass_by(10)
        self.assertEqual(len(self.dead), 1)

    def test_never_later(self) -> None:
        """Whenever it falls silent, that is noticed after interval and patience, no later."""
        for last in range(1, 60, 7):
            self.setUp()
            for _ in range(last):
                self.pass_by(1)
                self.heart.heard_at = self.clock.seconds()
            self.pass_by(24)
            self.assertEqual(self.dead, [])
            self.pass_by(1)
            self.assertEqual(len(self.dead), 1)

    def test_talkers_are_not_asked(self) -> None:
        """Who talks by itself is never asked."""
        for _ in range(100):
            self.heart.heard_at = self.clock.seconds()
            self.pass_by(10)
        self.assertEqual((self.asked, self.dead), ([], []))

    def test_suspicion(self) -> None:
        """Somebody waits in vain: it is asked at once, but not twice."""
        self.pass_by(1)
        self.heart.heard_at = self.clock.seconds()
        self.heart.suspect()
        self.heart.suspect()
        self.assertEqual(self.asked, [1.0])
        self.pass_by(10)
        self.assertEqual(len(self.dead), 1)
        self.heart.suspect()
        self.assertEqual(len(self.asked), 1)

    def test_stop(self) -> None:
        """Stopped, it leaves nothing behind."""
        self.heart.stop()
        self.heart.suspect()
        self.assertEqual((self.clock.getDelayedCalls(), self.asked), ([], []))
