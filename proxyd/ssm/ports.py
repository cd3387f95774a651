"""
What a session carries: one connection to a port of the instance, or any number to a remote host.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from proxyd.config.times import SsmTimes
from proxyd.errors import DialError, DialFailure
from proxyd.net.failover import WayLost
from proxyd.net.last_bytes import LastBytes
from proxyd.ssm.session import Session
from proxyd.ssm.stream import SsmStream
from proxyd.target import Target
from proxyd.wire.ssm.handshake import QUIET_SINCE
from proxyd.wire.ssm.smux import NOP, Smux

_log = Logger()

MOST_KEPT = 512 * 1024
ENOUGH_KEPT = 128 * 1024
"""Bytes that a stream's reader leaves, at which the session is held, and goes on."""

_OLD_PULSE = 10.0
"""Seconds between signs of life toward agents that end a session without them."""


class _Carrying:
    """What both have in common: turns to send, and the holding of a session nobody reads."""

    session: Session

    def __init__(self, clock: IReactorTime, times: SsmTimes) -> None:
        self.streams: dict[int, SsmStream] = {}
        self.last_bytes: LastBytes[SsmStream] = LastBytes(
            clock, lambda stream: stream.sent, lambda stream: stream.abortConnection()
        )
        self._clock = clock
        self._times = times
        self._turns: deque[SsmStream] = deque()
        self._stuck: IDelayedCall | None = None

    # -- for its streams

    @property
    def writable(self) -> bool:
        """Whether bytes can be sent now."""
        return self.session.writable

    @property
    def half_closed_time(self) -> float:
        """See L{SsmTimes.half_closed}."""
        return self._times.half_closed

    def wait_for_turn(self, stream: SsmStream) -> None:
        """It is its turn when there is room, after those that wait already."""
        if not stream.queued:
            stream.queued = True
            self._turns.append(stream)
        if self.session.writable:
            self.progress()

    def sent(self) -> None:
        """Send what was put."""
        self.session.flush()

    def call_soon(self, call: Any, *arguments: Any) -> None:
        """Call, but not now."""
        self._clock.callLater(0, call, *arguments)

    def call_later(self, seconds: float, call: Any) -> IDelayedCall:
        """Call later."""
        return self._clock.callLater(seconds, call)

    def kept_changed(self) -> None:
        """Hold the session while a stream's reader leaves too much."""
        most = max((one.kept for one in self.streams.values()), default=0)
        if most > MOST_KEPT:
            self.session.hold(True)
            if self._stuck is None:
                before = {number: one.taken for number, one in self.streams.items()}
                self._stuck = self._clock.callLater(self._times.stuck, self._unstick, before)
        elif most <= ENOUGH_KEPT:
            self.session.hold(False)
            self._forget_stuck()

    def _unstick(self, before: dict[int, int]) -> None:
        """One that takes nothing at all must not hold up others: it is cut off."""
        self._stuck = None
        if len(self.streams) > 1:
            for number, stream in list(self.streams.items()):
                if stream.kept > ENOUGH_KEPT and before.get(number) == stream.taken:
                    _log.warn(
                        "a connection to {target} was ended: nobody read it for {seconds:g} s, "
                        "and others share its session",
                        target=str(stream.target),
                        seconds=self._times.stuck,
                    )
                    stream.abortConnection()
        self.kept_changed()

    def _forget_stuck(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    # -- for the session

    def progress(self) -> None:
        """There may be room: give turns."""
        turns, session = self._turns, self.session
        while turns and session.writable:
            stream = turns.popleft()
            stream.queued = False
            if stream.turn() and not stream.queued:
                stream.queued = True
                turns.append(stream)

    def session_over(self, error: DialError) -> None:
        """The session is gone, and all that was in it."""
        self._turns.clear()
        self._forget_stuck()
        self.last_bytes.stop()
        for stream in list(self.streams.values()):
            stream.lost(error.detail)


class BasicPort(_Carrying):
    """
    One connection to a port of the instance itself.

    @ivar first: fires when the first byte came, which proves that the port is open
    """

    def __init__(self, clock: IReactorTime, times: SsmTimes, target: Target) -> None:
        super().__init__(clock, times)
        self.first: Deferred[None] = Deferred()
        self.stream = SsmStream(self, 0, target)
        self.streams[0] = self.stream

    def put(self, stream: SsmStream, data: bytes) -> None:
        """Send bytes."""
        self.session.send(data)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if not self.first.called:
            self.first.callback(None)
        self.stream.data_received(data)

    def flag_received(self, flag: int) -> None:
        """Nothing is said by flags here."""

    def session_over(self, error: DialError) -> None:
        """The session is over: so is the connection. Without a fault that is how it ends."""
        if not self.first.called:
            self.first.errback(error)
        super().session_over(error)

    def leave(self, stream: SsmStream) -> None:
        """The connection has ended: so does the session."""
        self.streams.clear()
        self._forget_stuck()
        self.session.hold(False)
        self.session.end()


@dataclass(slots=True)
class _Opening:
    """A stream that was asked for."""

    stream: SsmStream
    frame: int
    done: Deferred[SsmStream]
    grace: IDelayedCall | None = None


class MuxPort(_Carrying):
    """
    Connections to one remote host and port, by smux.

    @ivar opened: connections that were made in it
    @ivar emptied: called when the last stream has left
    """

    def __init__(self, clock: IReactorTime, times: SsmTimes, target: Target) -> None:
        super().__init__(clock, times)
        self.opened = 0
        self.emptied: Any = None
        self._target = target
        self._smux = Smux()
        self._openings: dict[int, _Opening] = {}
        self._nop: IDelayedCall | None = None

    @property
    def full(self) -> bool:
        """Whether no more streams can be opened in it."""
        return self._smux.used_up

    def begin(self) -> None:
        """The session is open."""
        if not self.session.handshake.is_newer_than(QUIET_SINCE):
            self._say_nop()

    def open(self) -> Deferred[SsmStream]:
        """
        Open a connection.

        The agent does not say when it is made, only when it can't be: one that
        was not refused within a moment is taken for made.

        @return: fails with L{DialError}: REFUSED; WayLost where the session ended
        """
        number, data = self._smux.open()
        self.session.send(data)
        stream = self.streams[number] = SsmStream(self, number, self._target)
        done: Deferred[SsmStream] = Deferred(lambda _: self._give_up(number))
        self._openings[number] = _Opening(stream, self.session.channel.next_number - 1, done)
        self.session.flush()
        return done

    def _give_up(self, number: int) -> None:
        opening = self._forget(number)
        if opening is not None:
            opening.stream.abortConnection()

    def _forget(self, number: int) -> _Opening | None:
        opening = self._openings.pop(number, None)
        if opening is not None and opening.grace is not None and opening.grace.active():
            opening.grace.cancel()
        return opening

    def _made(self, number: int) -> None:
        opening = self._forget(number)
        if opening is not None:
            self.opened += 1
            opening.done.callback(opening.stream)

    def put(self, stream: SsmStream, data: bytes) -> None:
        """Send bytes of a stream."""
        self.session.send(self._smux.data(stream.number, data))

    def data_received(self, data: bytes) -> None:
        """Bytes of any streams came."""
        for number, piece in self._smux.receive(data):
            stream = self.streams.get(number)
            if stream is None:
                continue
            if piece is None:
                self._far_closed(number, stream)
                continue
            stream.data_received(piece)
            if number in self._openings:
                self._made(number)

    def _far_closed(self, number: int, stream: SsmStream) -> None:
        opening = self._forget(number)
        stream.far_closed()
        if opening is not None:
            stream.abortConnection()
            what = f"{self._target}: the instance could not connect to it"
            opening.done.errback(DialError(DialFailure.REFUSED, what))

    def flag_received(self, flag: int) -> None:
        """A refusal is told by a flag, too, but only the stream's end says whose it is."""

    def progress(self) -> None:
        """Something was taken, or there is room."""
        if self._openings:
            oldest = self.session.channel.oldest
            for number, opening in self._openings.items():
                if opening.grace is None and opening.frame < oldest:
                    seconds = self._times.refusal
                    opening.grace = self._clock.callLater(seconds, self._made, number)
        super().progress()

    def session_over(self, error: DialError) -> None:
        """The session is gone, and all that was in it."""
        if self._nop is not None:
            self._nop.cancel()
            self._nop = None
        for number in list(self._openings):
            opening = self._forget(number)
            assert opening is not None
            broken = error
            if error.failure in (DialFailure.LOST, DialFailure.BROKEN):
                broken = WayLost(DialFailure.BROKEN, error.detail)
            opening.done.errback(broken)
            opening.stream.abortConnection()
        super().session_over(error)

    def leave(self, stream: SsmStream) -> None:
        """A stream has ended: say so to the agent."""
        if self.streams.pop(stream.number, None) is None:
            return
        if self.session.channel.closed is None:
            self.session.send(self._smux.close(stream.number))
            self.session.flush()
        self.kept_changed()
        if not self.streams and self.emptied is not None:
            self.emptied()

    def _say_nop(self) -> None:
        """Say that we live, to an agent that would end the session else."""
        if self.session.writable:
            self.session.send(NOP)
            self.session.flush()
        self._nop = self._clock.callLater(_OLD_PULSE, self._say_nop)
