"""
The connections to one SSH server, side by side: usually one is enough.

One is not where the server has no room for another channel in it, where it is
crowded, or where it has more to send than its TCP connection takes. Then
another is made, up to a limit; streams stay on the one they began on.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory, IReactorTime
from twisted.logger import Logger

from proxyd.net.tasks import spawn
from proxyd.ssh.channels import Channels
from proxyd.ssh.refusals import NoRoom
from proxyd.target import Target

_log = Logger()

MOST = 4
"""Connections to one server, unless more are configured."""

CROWD = 200
"""Channels in each connection from which another is made."""

SATURATED_SECONDS = 1.0
"""How long a connection takes no more bytes before another is made."""

SUSPICION_SECONDS = 2.0
"""How long a server may take to open a channel before it is asked whether it lives."""


class Lanes:
    """
    An SSH server while it is connected (L{Link<proxyd.net.failover.Link>}).

    @ivar gone: fires with the reason when the last connection is lost
    """

    def __init__(
        self,
        first: Channels,
        connect: Callable[[], Coroutine[Any, Any, Channels]],
        clock: IReactorTime,
        wanted: int,
    ) -> None:
        """
        @param connect: makes another connection
        @param wanted: how many there are from the start
        """
        self.gone: Deferred[str] = Deferred()
        self._connect = connect
        self._clock = clock
        self._wanted = wanted
        self._lanes: list[Channels] = []
        self._growing: Deferred[None] | None = None
        self._grown: list[Deferred[None]] = []
        self._closing = False
        self._add(first)
        if wanted > 1:
            self._grow()

    @property
    def sessions(self) -> int:
        """How many connections there are."""
        return len(self._lanes)

    @property
    def streams(self) -> int:
        """How many channels there are in all of them."""
        return sum(lane.count for lane in self._lanes)

    async def open(self, target: Target, source: str, factory: IProtocolFactory) -> IProtocol:
        """
        Open a channel on the connection that has the fewest.

        @raise DialError: see L{Channels.open}
        """
        if self._crowded():
            self._grow()
        lane = min(self._lanes, key=lambda one: (self._saturated(one), one.count))
        try:
            return await self._open_on(lane, target, source, factory)
        except NoRoom:
            known = list(self._lanes)
            self._grow()
            await self._until_grown()
            fresh = [one for one in self._lanes if one not in known]
            if not fresh:
                raise
        return await self._open_on(fresh[0], target, source, factory)

    async def _open_on(
        self, lane: Channels, target: Target, source: str, factory: IProtocolFactory
    ) -> IProtocol:
        suspicion: IDelayedCall = self._clock.callLater(SUSPICION_SECONDS, lane.suspect)
        try:
            return await lane.open(target, source, factory)
        finally:
            if suspicion.active():
                suspicion.cancel()

    def close(self) -> None:
        """Say goodbye on all connections."""
        self._closing = True
        if self._growing is not None:
            self._growing.cancel()
        for lane in list(self._lanes):
            lane.disconnect()

    def _saturated(self, lane: Channels) -> bool:
        since = lane.saturated_since
        return since is not None and self._clock.seconds() - since > SATURATED_SECONDS

    def _crowded(self) -> bool:
        return all(lane.count >= CROWD or self._saturated(lane) for lane in self._lanes)

    def _grow(self) -> None:
        """Make another connection, unless one is being made or there are enough."""
        if self._growing is None and not self._closing and self.sessions < max(MOST, self._wanted):
            growing = spawn(self._make_one(), _log, "making another SSH connection")
            if not growing.called:
                self._growing = growing
            growing.addCallback(self._made)

    async def _make_one(self) -> None:
        try:
            lane = await self._connect()
        except CancelledError:
            raise
        except Exception as problem:
            _log.warn("another SSH connection could not be made: {why}", why=str(problem))
            return
        self._add(lane)

    def _made(self, _: None) -> None:
        self._growing = None
        waiting, self._grown = self._grown, []
        for one in waiting:
            if not one.called:
                one.callback(None)
        if 0 < self.sessions < self._wanted and not waiting:
            self._grow()

    def _until_grown(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        if self._growing is None:
            done.callback(None)
        else:
            self._grown.append(done)
        return done

    def _add(self, lane: Channels) -> None:
        if self._closing:
            lane.disconnect()
            return
        self._lanes.append(lane)
        lane.gone.addCallback(self._lost, lane)

    def _lost(self, why: str, lane: Channels) -> None:
        self._lanes.remove(lane)
        if not self._lanes and not self.gone.called:
            self._closing = True
            if self._growing is not None:
                self._growing.cancel()
            self.gone.callback(why)
