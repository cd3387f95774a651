"""
The whole daemon: its rooms in their order, and what is done with all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.logger import Logger

from proxyd import __version__
from proxyd.app.databases import Databases
from proxyd.app.room import Ground, Line, Room
from proxyd.app.socks import Socks
from proxyd.app.state import State
from proxyd.app.ways import Ways
from proxyd.config.model import Config
from proxyd.config.times import LINGER, LONGEST_DIAL
from proxyd.dial.direct import DirectDialer
from proxyd.errors import ConfigError, StartError
from proxyd.net.descriptors import check, raise_limit
from proxyd.net.link import Link
from proxyd.net.memory import keep_freed_memory
from proxyd.net.resolver import Resolver
from proxyd.services.ending import end_with
from proxyd.services.notify import Notify
from proxyd.services.ordered import OrderedService
from proxyd.services.signals import Signals
from proxyd.services.statistics import Statistics


def build(
    config: Config,
    reactor: Any,
    *,
    found: str,
    reload: Callable[[], Config],
    environment: Mapping[str, str] = os.environ,
) -> Daemon:
    """
    The daemon of a configuration, not started yet.

    @param found: the sentence that says where the configuration came from: the
        log's first line
    @param reload: reads the configuration again
    @raise StartError: a secret or a certificate can't be read
    """
    return Daemon(config, reactor, found, reload, environment)


class _LinkService(Service):
    """The link as a service."""

    name = "link"

    def __init__(self, link: Link) -> None:
        self._link = link

    def startService(self) -> None:
        """Carry bytes."""
        super().startService()  # type: ignore[no-untyped-call]
        self._link.start()

    def stopService(self) -> None:
        """Close what is left."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._link.stop()


class Daemon(OrderedService):
    """
    proxyd: everything it does, started top to bottom and stopped bottom to top.

    @ivar config: the configuration in force
    @ivar rooms: what it consists of; a room may lean on those before it
    @ivar phase: C{starting}, C{ready} or C{draining}
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        found: str,
        reload: Callable[[], Config],
        environment: Mapping[str, str],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.config = self._started = config
        self._reactor = reactor
        self._found = found
        self._read_again = reload
        self.link = Link(reactor, reactor, LINGER)
        self.resolver = Resolver(reactor)
        direct = DirectDialer(reactor, self.resolver, LONGEST_DIAL)
        ground = Ground(reactor, environment, self.link, self.resolver, direct)
        self._began: float = reactor.seconds()
        self.phase = "starting"
        self._reopening = DeferredLock()
        self.state = State(ground, config)
        # autobahn takes a while to import.
        if config.agents is not None:
            from proxyd.app.agents import AgentsRoom

            agents = AgentsRoom(ground, config, config.agents, self.state.store)
            self.ways = Ways(ground, config, self._give_up, agents.upstream)
            before: tuple[Room, ...] = (self.state, agents)
        else:
            self.ways = Ways(ground, config, self._give_up)
            before = (self.state,)
        self.databases = Databases(ground, config, self.state, self.ways)
        self.rooms: tuple[Room, ...] = (*before, self.ways, self.databases)
        if config.socks5 is not None:
            self.rooms = (*self.rooms, Socks(ground, config.socks5, self.ways))
        if config.api is not None:
            # Its libraries take a while to import. It is the last: it offers what the others bring.
            from proxyd.app.api import ApiRoom

            room = ApiRoom(ground, config, config.api, self, self.databases, self.ways)
            self.rooms = (*self.rooms, room)
        self.notify = Notify(reactor, environment)
        stack: list[IService] = [self.resolver, _LinkService(self.link)]
        stack += [service for room in self.rooms for service in room.inner]
        stack += [self.notify]
        stack += [service for room in self.rooms for service in room.doors]
        stack += [
            Statistics(reactor, [self._statistics]),
            Signals(reactor, self.drain, self.reload),
        ]
        for service in stack:
            service.setServiceParent(self)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """
        Start, and say so.

        @raise StartError: a secret can't be read, or a listener can't be opened
        """
        self._log.info("proxyd {version}: {found}", version=__version__, found=self._found)
        for warning in self.config.warnings:
            self._log.warn("{warning}", warning=str(warning))
        self._check_limits()
        keep_freed_memory()
        self._adopt(self.config)
        for room in self.rooms:
            room.open()
        super().startService()
        self._reactor.callWhenRunning(self._ready)

    def _ready(self) -> None:
        """The reactor runs: whoever comes is served."""
        if self.phase == "starting":
            self.phase = "ready"
            self.notify.ready(self._status())

    def _give_up(self, error: StartError) -> None:
        """What must be there at the start is not: end, with its line and 1."""
        self._log.critical("not started: {reason}", reason=str(error))
        end_with(self._reactor, 1, f"proxyd: {error}")

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        now: float = self._reactor.seconds()
        return now - self._began

    def drain(self) -> Deferred[object]:
        """
        Let everybody finish, up to C{drain_timeout}, then end the rest.

        Fires when nobody is left.
        """
        self.phase = "draining"
        self.notify.stopping("draining")
        leaving: Deferred[Any] = DeferredList(
            [room.drain() for room in self.rooms], consumeErrors=True
        )
        leaving.addTimeout(self.config.drain_timeout, self._reactor, self._drained_too_long)
        return leaving

    def _drained_too_long(self, result: object, seconds: float) -> None:
        self._log.warn(
            "{left} sessions did not end within {seconds:g} s: they are ended now",
            left=sum(room.left() for room in self.rooms),
            seconds=seconds,
        )

    def reopen(self) -> Deferred[None]:
        """
        Begin anew with what can be begun anew, such as pools; nothing in flight is cut.

        One after the other, however many ask for it. Fails with L{StartError} where
        something can't be opened again.
        """
        return self._reopening.run(lambda: Deferred.fromCoroutine(self._reopen()))

    async def _reopen(self) -> None:
        self._log.info("pools and listeners are opened anew")
        problems = []
        for room in self.rooms:
            try:
                await room.reopen()
            except StartError as error:
                problems.append(str(error))
        if problems:
            raise StartError("; ".join(problems))

    def reload(self) -> Deferred[object]:
        """
        Read the configuration and the certificates again.

        Connections that changed apply to new leases. A configuration that
        can't be used changes nothing, and the log says why. Never fails.
        """
        self.notify.reloading()
        try:
            config = self._read_again()
            self._adopt(config)
        except ConfigError as error:
            for problem in error.problems:
                self._log.error("not reloaded: {problem}", problem=str(problem))
        except StartError as error:
            self._log.error("not reloaded: {problem}", problem=str(error))
        except Exception:
            # A bug; whoever waits for the end of the reload must hear of it all the same.
            self._log.failure("not reloaded")
        else:
            self.config = config
            self._log.info("configuration reloaded")
        self.notify.ready(self._status())
        done: Deferred[object] = Deferred()
        done.callback(None)
        return done

    def _adopt(self, config: Config) -> None:
        """
        Let all rooms follow a configuration, or none of them.

        @raise StartError: one can't
        """
        steps = [room.prepare(config) for room in self.rooms]
        self._say_what_waits(config)
        for step in steps:
            step()

    def _say_what_waits(self, config: Config) -> None:
        """Name what has changed since the start and can't be changed by a reload."""
        then, now = self._fixed(self._started), self._fixed(config)
        waiting = [name for name in then if then[name] != now[name]]
        if waiting:
            self._log.warn("at the next start only: {keys}", keys=", ".join(waiting))

    def _fixed(self, config: Config) -> dict[str, object]:
        """What a reload leaves as it is."""
        found: dict[str, object] = {}
        for room in self.rooms:
            found.update(room.fixed(config))
        found["log.level"] = config.log.level
        found["log.format"] = config.log.format
        found["api"] = config.api is not None
        return found

    def _check_limits(self) -> None:
        needed = [room.descriptors(self.config) for room in self.rooms]
        clients, servers = (sum(numbers) for numbers in zip(*needed, strict=True))
        if not clients:
            return
        warning = check(raise_limit(), clients, servers)
        if warning is not None:
            self._log.warn("{warning}", warning=warning)

    def _status(self) -> str:
        places = [place for room in self.rooms for place in room.places()]
        return "; ".join(places) or "nothing to listen for"

    def _statistics(self) -> Iterator[Line]:
        for room in self.rooms:
            yield from room.statistics()
