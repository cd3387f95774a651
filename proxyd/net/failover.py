"""
Several instances that lead to the same place, of which the first that is well is used.

An instance is connected at start and stays so; one that is lost is connected
again, with growing pauses. What it means to be connected is the business of
whoever makes the L{Link}: an SSH connection, an SSM session, an agent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from proxyd.config.times import UpstreamTimes
from proxyd.errors import DialError, DialFailure, StartError
from proxyd.interfaces import InstanceStatus, UpstreamStatus
from proxyd.net.tasks import spawn

_log = Logger()


class WayLost(DialError):
    """This instance can't lead to the target, whatever the target is; another one may."""


class Link(Protocol):
    """What an instance is while it is connected."""

    @property
    def gone(self) -> Deferred[str]:
        """Fires with the reason when it is of no use any more; never fails."""

    @property
    def sessions(self) -> int:
        """How many connections it stands on."""

    @property
    def streams(self) -> int:
        """How many streams go through it."""

    def close(self) -> None:
        """End it, in order if that is soon; C{gone} then fires."""


L = TypeVar("L", bound=Link)
T = TypeVar("T")


class _Instance(Generic[L]):
    """One of them, and how it is."""

    def __init__(self, name: str, connect: Callable[[], Coroutine[Any, Any, L]]) -> None:
        self.name = name
        self.connect = connect
        self.link: L | None = None
        self.attempt: Deferred[None] | None = None
        self.retry: IDelayedCall | None = None
        self.forget()

    def forget(self) -> None:
        """Nothing has happened yet."""
        self.began = float("-inf")
        self.pause = 0.0
        self.since = 0.0
        self.was_lost = False
        self.tried = False
        self.problem = ""


class Failover(Generic[L]):
    """
    The instances of one upstream.

    @ivar opened: how many uses succeeded
    @ivar failed: how many uses failed because no instance could lead anywhere
    """

    def __init__(
        self,
        name: str,
        instances: Sequence[tuple[str, Callable[[], Coroutine[Any, Any, L]]]],
        clock: IReactorTime,
        jitter: Callable[[], float],
        times: UpstreamTimes,
    ) -> None:
        """
        @param name: what errors and the log call it
        @param instances: in order of preference: a name, and what connects it
        @param jitter: gives numbers from nought to one; pauses are spread by them
        """
        self.opened = 0
        self.failed = 0
        self._name = name
        self._instances = [_Instance(label, connect) for label, connect in instances]
        self._clock = clock
        self._jitter = jitter
        self._times = times
        self._running = False
        self._used: _Instance[L] | None = None
        self._waiting: list[Deferred[None]] = []
        self._asked: list[Deferred[None]] = []

    # -- life

    def start(self) -> None:
        """Connect all of them."""
        self._running = True
        for instance in self._instances:
            instance.forget()
        for instance in self._instances:
            self._try(instance)

    async def stop(self) -> None:
        """End all of them, and wait until they are gone."""
        self._running = False
        for instance in self._instances:
            self._forget_retry(instance)
            if instance.attempt is not None:
                instance.attempt.cancel()
        self._tell_waiting()
        gone = []
        for instance in self._instances:
            link = instance.link
            if link is not None:
                done: Deferred[None] = Deferred()
                link.gone.addCallback(_passed_on, done)
                link.close()
                gone.append(done)
        for one in gone:
            await one

    def ready(self) -> Deferred[None]:
        """See L{IUpstream.ready<proxyd.interfaces.IUpstream.ready>}."""
        done: Deferred[None] = Deferred()
        self._asked.append(done)
        self._tell_asked()
        return done

    def status(self) -> UpstreamStatus:
        """See L{IUpstream.status<proxyd.interfaces.IUpstream.status>}."""
        chosen = self._choose(())
        if not self._running:
            state = "stopped"
        elif chosen is not None:
            state = "up"
        elif any(not instance.tried for instance in self._instances):
            state = "connecting"
        else:
            state = "down"
        recent = max(self._instances, key=lambda one: one.began if one.problem else -1.0)
        return UpstreamStatus(
            state,
            chosen.name if chosen is not None else None,
            tuple(_status_of(instance) for instance in self._instances),
            recent.problem,
            self.opened,
            self.failed,
        )

    # -- use

    async def use(self, attempt: Callable[[L], Awaitable[T]]) -> T:
        """
        Do something by the first instance that is well, and by the next where that is lost.

        It has no deadline of its own.

        @param attempt: raises L{WayLost} where it is the instance that failed
        @raise DialError: what C{attempt} raised; BROKEN: no instance is of use
        """
        hopeless: list[L] = []
        try:
            for _ in range(3 * len(self._instances)):
                instance = self._choose(hopeless)
                if instance is None or instance.link is None:
                    await self._until_one_is_up(hopeless)
                    continue
                self._note_used(instance)
                link = instance.link
                try:
                    done = await attempt(link)
                except WayLost as problem:
                    instance.problem = problem.detail
                    hopeless.append(link)
                    continue
                self.opened += 1
                return done
            raise self._broken()
        except DialError as problem:
            if problem.failure is DialFailure.BROKEN:
                self.failed += 1
            raise

    def _choose(self, hopeless: Sequence[L]) -> _Instance[L] | None:
        """The first that is well and has been so for a while, or else the first that is well."""
        well = [one for one in self._instances if one.link is not None and one.link not in hopeless]
        now = self._clock.seconds()
        settled = [one for one in well if not one.was_lost or now - one.since >= self._times.settle]
        return next(iter(settled or well), None)

    def _until_one_is_up(self, hopeless: Sequence[L]) -> Deferred[None]:
        """
        Try those that are lost now, unless they were tried just before.

        @return: fires when one is connected; fails with DialError when none can be
        """
        if not self._running:
            raise self._broken()
        now = self._clock.seconds()
        for one in self._instances:
            if one.retry is not None and now - one.began >= self._times.soonest:
                self._try(one)
        if self._choose(hopeless) is None and not self._trying():
            raise self._broken()
        done: Deferred[None] = Deferred(lambda _: self._waiting.remove(done))
        self._waiting.append(done)
        if self._choose(hopeless) is not None:
            self._tell_waiting()
        return done

    def _trying(self) -> bool:
        return any(one.attempt is not None for one in self._instances)

    def _broken(self) -> DialError:
        return DialError(DialFailure.BROKEN, f"upstream {self._name}: {self._problems()}")

    def _problems(self) -> str:
        if not self._running:
            return "is stopped"
        said = [f"{one.name}: {one.problem or 'connecting'}" for one in self._instances]
        return "; ".join(said) or "has no instance"

    def _note_used(self, instance: _Instance[L]) -> None:
        if instance is not self._used:
            if self._used is not None:
                _log.info(
                    "upstream {upstream}: new connections go through {instance}",
                    upstream=self._name,
                    instance=instance.name,
                )
            self._used = instance

    # -- connecting

    def _try(self, instance: _Instance[L]) -> None:
        """Begin to connect one."""
        self._forget_retry(instance)
        if instance.attempt is not None or instance.link is not None:
            return
        instance.began = self._clock.seconds()
        work = spawn(self._connect(instance), _log, f"connecting {instance.name}")
        if not work.called:
            instance.attempt = work
            work.addCallback(self._tried, instance)
        else:
            self._tried(None, instance)

    async def _connect(self, instance: _Instance[L]) -> None:
        """Connect one, or note why not."""
        connecting = Deferred.fromCoroutine(instance.connect())
        connecting.addTimeout(self._times.connect, self._clock, _too_late)
        try:
            link = await connecting
        except CancelledError:
            raise
        except Exception as problem:
            self._note_problem(instance, str(problem) or type(problem).__name__)
            return
        instance.link = link
        instance.since = self._clock.seconds()
        _log.info(
            "upstream {upstream}: {instance} is connected",
            upstream=self._name,
            instance=instance.name,
        )
        link.gone.addCallback(self._lost, instance, link)

    def _tried(self, _: None, instance: _Instance[L]) -> None:
        instance.attempt = None
        instance.tried = True
        if not self._running:
            return
        if instance.link is None:
            self._try_later(instance)
        self._tell_asked()
        if instance.link is not None or not self._trying():
            self._tell_waiting()

    def _lost(self, why: str, instance: _Instance[L], link: L) -> str:
        """One is gone: connect it again."""
        if instance.link is link:
            instance.link = None
            instance.was_lost = True
            if self._running:
                if self._clock.seconds() - instance.since >= self._times.settle:
                    instance.pause = 0.0
                self._note_problem(instance, why)
                if instance.attempt is None:
                    self._try_later(instance)
        return why

    def _note_problem(self, instance: _Instance[L], why: str) -> None:
        why = why.removeprefix(f"{instance.name}: ")
        # The same again and again is told once.
        tell = _log.debug if why == instance.problem else _log.warn
        instance.problem = why
        tell(
            "upstream {upstream}: {instance} is not there: {why}",
            upstream=self._name,
            instance=instance.name,
            why=why,
        )

    def _try_later(self, instance: _Instance[L]) -> None:
        times = self._times
        instance.pause = min(max(times.first_pause, 2 * instance.pause), times.longest_pause)
        seconds = instance.pause * (0.5 + 0.5 * self._jitter())
        instance.retry = self._clock.callLater(seconds, self._retry, instance)

    def _retry(self, instance: _Instance[L]) -> None:
        instance.retry = None
        self._try(instance)

    def _forget_retry(self, instance: _Instance[L]) -> None:
        retry, instance.retry = instance.retry, None
        if retry is not None:
            retry.cancel()

    # -- telling

    def _tell_waiting(self) -> None:
        """Have all who wait look again."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if self._running and any(instance.link for instance in self._instances):
                one.callback(None)
            else:
                one.errback(self._broken())

    def _tell_asked(self) -> None:
        """Tell who asks for the start what has become of it."""
        if any(one.link is not None for one in self._instances):
            problem = None
        elif all(one.tried for one in self._instances):
            problem = StartError(f"upstream {self._name}: no way there: {self._problems()}")
        else:
            return
        asked, self._asked = self._asked, []
        for one in asked:
            if one.called:
                continue
            if problem is None:
                one.callback(None)
            else:
                one.errback(problem)


def _status_of(instance: _Instance[L]) -> InstanceStatus:
    link = instance.link
    if link is not None:
        counts = (link.sessions, link.streams)
        return InstanceStatus(instance.name, "connected", *counts, instance.problem)
    state = "lost" if instance.tried and instance.attempt is None else "connecting"
    return InstanceStatus(instance.name, state, last_error=instance.problem)


def _passed_on(why: str, done: Deferred[None]) -> str:
    done.callback(None)
    return why


def _too_late(_: object, seconds: float) -> Any:
    raise DialError(DialFailure.TIMEOUT, f"not connected in {seconds:g} s")
