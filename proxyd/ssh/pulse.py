"""
Whether the other side of a connection is still there.

A peer that is gone without a word (a cut line, a machine without power) sends
nothing, which is also what a peer does that has nothing to say. So it is asked.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from proxyd.config.times import PulseTimes


class Heart:
    """
    Watches one connection. Whoever owns it sets L{heard_at} when bytes come.

    @ivar heard_at: seconds on the clock at which a byte came last
    """

    __slots__ = ("_asked_at", "_beat", "_clock", "_dead", "_pulse", "_question", "heard_at")

    def __init__(
        self,
        pulse: PulseTimes,
        clock: IReactorTime,
        question: Callable[[], None],
        dead: Callable[[str], None],
    ) -> None:
        """
        @param question: sends something that must be answered
        @param dead: called once, with the reason, when nothing came in time
        """
        self.heard_at = 0.0
        self._pulse = pulse
        self._clock = clock
        self._question = question
        self._dead = dead
        self._asked_at: float | None = None
        self._beat: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to watch."""
        self.heard_at = self._clock.seconds()
        self._wait(self._pulse.interval)

    def stop(self) -> None:
        """Watch no more."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def suspect(self) -> None:
        """Somebody waits in vain: ask now."""
        if self._beat is not None and self._asked_at is None:
            self._ask()

    def _wait(self, seconds: float) -> None:
        self.stop()
        self._beat = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        """Ask who was silent for too long; give up who does not answer."""
        self._beat = None
        now, pulse = self._clock.seconds(), self._pulse
        if self._asked_at is not None and self.heard_at <= self._asked_at:
            left = self._asked_at + pulse.patience - now
            if left > 0:
                self._wait(min(left, pulse.interval))
            else:
                self._dead(f"no sign of life for {now - self.heard_at:.3g} s")
            return
        # Any byte since the question was an answer to it.
        self._asked_at = None
        quiet = now - self.heard_at
        if quiet < pulse.interval:
            self._wait(pulse.interval - quiet)
        else:
            self._ask()

    def _ask(self) -> None:
        self._asked_at = self._clock.seconds()
        self._wait(min(self._pulse.patience, self._pulse.interval))
        self._question()
