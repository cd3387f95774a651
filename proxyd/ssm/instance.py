"""
An instance that forwards: its sessions, one or more for each destination.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from proxyd.errors import DialError, DialFailure
from proxyd.net.failover import WayLost
from proxyd.net.tasks import spawn
from proxyd.ssm.ground import Ground, Phase
from proxyd.ssm.ports import MuxPort
from proxyd.ssm.session import Session
from proxyd.ssm.stream import SsmStream
from proxyd.target import Target

_log = Logger()

DOCUMENT = "AWS-StartPortForwardingSessionToRemoteHost"

MOST_SESSIONS = 100
"""Sessions of an instance, whatever their destinations; its agent takes 1000 of everybody's."""

_WAY = (DialFailure.BROKEN, DialFailure.LOST, DialFailure.TIMEOUT, DialFailure.CREDENTIALS)
"""What a session that could not be started says of the instance, and not of the target."""


class _Lane:
    """
    One session to one destination, from the wish for it to its end.

    @ivar load: streams in it, and who waits for it
    """

    def __init__(self, ground: Ground, instance: str, target: Target) -> None:
        self.target = target
        self.port = MuxPort(ground.clock, ground.times, target)
        parameters = {"host": target.host, "portNumber": str(target.port), "localPortNumber": "0"}
        self.session = Session(ground, self.port, instance, DOCUMENT, parameters)
        self.port.session = self.session
        self.wanted = 0
        self.idle: IDelayedCall | None = None
        self.problem: DialError | None = None
        self.starting: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    @property
    def load(self) -> int:
        """Streams in it, and who waits for it."""
        return len(self.port.streams) + self.wanted

    async def start(self) -> None:
        """Start it; those who wait are told."""
        try:
            await self.session.start()
            self.port.begin()
        except DialError as problem:
            self.problem = problem
        except BaseException:
            self.problem = DialError(DialFailure.BROKEN, "given up")
            raise
        finally:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(None)

    def started(self) -> Deferred[None]:
        """Fires when it is clear whether it started; cancelling it harms nobody else."""
        if self.session.phase is not Phase.STARTING or self.problem is not None:
            return succeed(None)
        done: Deferred[None] = Deferred(self._forget)
        self._waiting.append(done)
        return done

    def _forget(self, done: Deferred[None]) -> None:
        if done in self._waiting:
            self._waiting.remove(done)


class Instance:
    """
    An instance while it may be used (L{Link<proxyd.net.failover.Link>}).

    @ivar gone: fires when it was closed
    """

    def __init__(self, ground: Ground, name: str, wanted: int) -> None:
        """@param wanted: sessions side by side for one destination"""
        self.gone: Deferred[str] = Deferred()
        self._ground = ground
        self._name = name
        self._wanted = wanted
        self._lanes: list[_Lane] = []
        self._avoided_until = float("-inf")
        self._problem = ""
        self._ending: list[Deferred[None]] = []
        self._closing = False

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return len(self._lanes)

    @property
    def streams(self) -> int:
        """How many streams there are in all of them."""
        return sum(len(lane.port.streams) for lane in self._lanes)

    async def open(self, target: Target) -> SsmStream:
        """
        Open a stream, in the session that has the fewest, or in a new one.

        @raise WayLost: the instance is of no use now
        @raise DialError: the target is not to be had
        """
        lane = self._lane_for(target)
        if lane is None:
            lane = self._new_lane(target)
        lane.wanted += 1
        try:
            await lane.started()
            if lane.problem is not None:
                raise self._judged(lane.problem)
            if lane.session.phase is not Phase.OPEN:
                raise WayLost(DialFailure.BROKEN, f"{self._name}: the session ended")
            if lane.idle is not None:
                lane.idle.cancel()
                lane.idle = None
            return await lane.port.open()
        finally:
            lane.wanted -= 1
            self._look_idle(lane)

    def _lane_for(self, target: Target) -> _Lane | None:
        """The session to use; None: a new one."""
        usable = [
            lane
            for lane in self._lanes
            if lane.target == target
            and lane.problem is None
            and lane.session.phase in (Phase.STARTING, Phase.OPEN)
            and not lane.port.full
        ]
        least = min(usable, key=lambda lane: lane.load, default=None)
        if least is not None and (least.load == 0 or len(usable) >= self._wanted):
            return least
        if least is not None and len(self._lanes) >= MOST_SESSIONS:
            return least
        return None

    def _new_lane(self, target: Target) -> _Lane:
        now = self._ground.clock.seconds()
        if now < self._avoided_until:
            raise WayLost(DialFailure.BROKEN, self._problem)
        if len(self._lanes) >= MOST_SESSIONS:
            idle = [lane for lane in self._lanes if lane.load == 0]
            if not idle:
                raise WayLost(
                    DialFailure.BROKEN, f"{self._name}: it has {MOST_SESSIONS} sessions already"
                )
            self._end(idle[0])
        lane = _Lane(self._ground, self._name, target)
        self._lanes.append(lane)
        lane.session.gone.addCallback(self._gone, lane)
        lane.port.emptied = lambda: self._look_idle(lane)
        work = spawn(lane.start(), _log, "starting an SSM session")
        lane.starting = None if work.called else work
        return lane

    def _judged(self, problem: DialError) -> DialError:
        """Whether a session that could not be started speaks against the instance."""
        if isinstance(problem, WayLost) or problem.failure not in _WAY:
            return problem
        self._problem = problem.detail
        self._avoided_until = self._ground.clock.seconds() + self._ground.times.avoided
        return WayLost(DialFailure.BROKEN, problem.detail)

    def _look_idle(self, lane: _Lane) -> None:
        if lane.load == 0 and lane.idle is None and lane.session.phase is Phase.OPEN:
            seconds = self._ground.times.idle
            lane.idle = self._ground.clock.callLater(seconds, self._idle_over, lane)

    def _idle_over(self, lane: _Lane) -> None:
        lane.idle = None
        if lane.load == 0:
            self._end(lane)

    def _end(self, lane: _Lane) -> None:
        if lane in self._lanes:
            self._lanes.remove(lane)
        ending = lane.session.end()
        self._ending.append(ending)
        ending.addCallback(lambda _: self._ending.remove(ending))

    def _gone(self, why: str, lane: _Lane) -> str:
        if lane.idle is not None:
            lane.idle.cancel()
            lane.idle = None
        if lane in self._lanes:
            self._lanes.remove(lane)
        return why

    def close(self) -> None:
        """End all sessions; C{gone} fires when AWS was told."""
        if self._closing:
            return
        self._closing = True
        self._avoided_until = float("inf")
        self._problem = f"{self._name}: is stopped"
        for lane in list(self._lanes):
            if lane.starting is not None and not lane.starting.called:
                lane.starting.cancel()
            self._end(lane)
        spawn(self._wait(), _log, "ending SSM sessions")

    async def _wait(self) -> None:
        for ending in list(self._ending):
            done: Deferred[None] = Deferred()
            ending.addBoth(_tell, done)
            await done
        self.gone.callback("closed")


def _tell(result: Any, done: Deferred[None]) -> Any:
    done.callback(None)
    return result
