"""
The pool: the server connections of one user at one database, and who waits for one.

A connection is idle here, or opening, or out on a lease. What state it must be
in to come back is said by L{proxyd.postgres.lease}; here is only said how many
there are, how old they get, and whose turn it is.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from proxyd.errors import DialError, ProtocolError
from proxyd.net.tasks import spawn
from proxyd.postgres.answers import (
    STARTING_UP,
    Refused,
    service_refused,
    shutdown,
    token_refused,
    unreachable,
)
from proxyd.postgres.conversation import Lost
from proxyd.postgres.pauses import Pauses
from proxyd.postgres.pool_gauges import PoolGauges
from proxyd.postgres.queue import Place
from proxyd.postgres.server import Account, Server
from proxyd.postgres.server_connection import Failed, ServerConnection
from proxyd.target import Principal
from proxyd.wire.pg import messages

_log = Logger()

JITTER = 0.1
"""By how much of itself a lifetime is shortened at most, so that not all end at once."""

_NOTHING = messages.query("")
_SERVICE = Principal("", "proxyd")


class Pool(PoolGauges):
    """The server connections of one user at one database."""

    def __init__(
        self,
        server: Server,
        account: Account,
        database: str,
        clock: IReactorTime,
        random: Callable[[], float],
        keep_warm: bool,
    ) -> None:
        """
        @param account: the service user
        @param random: a number from 0 up to 1, for jitter
        @param keep_warm: hold the minimum also when no client is there
        """
        super().__init__(server, account, database, clock, keep_warm)
        self._random = random
        self._pauses = Pauses(clock, random, self._open_wanted, self.settings.server_times)
        self._heir: Pool | None = None
        _log.info("pool {pool} made", pool=self.name)

    @property
    def replaced(self) -> bool:
        """Whether leases are had from an heir now."""
        return self._heir is not None

    @property
    def current(self) -> Pool:
        """The pool that leases are had from now: this one, or its heir's heir."""
        pool = self
        while pool._heir is not None:
            pool = pool._heir
        return pool

    def holder_of(self, server: ServerConnection) -> Pool:
        """Whose a leased connection is: this pool's, or an heir's that whoever waited went to."""
        pool = self
        while server not in pool._in_use and pool._heir is not None:
            pool = pool._heir
        return pool

    # Who gets one

    def acquire(self) -> Place:
        """
        A connection that is idle and reset, in the order of asking.

        Fails with L{Fatal}: 53300 after C{acquire_timeout}, or why none can be
        opened. Cancel it to give up the place. What is had belongs to
        L{holder_of} it, which is an heir when this pool was closed meanwhile.
        """
        server = self.take()
        if server is not None:
            return succeed(server)
        self.counters.acquire_count += 1
        self._last_used = self._clock.seconds()
        if self._closed:
            return fail(shutdown("the pool was closed"))
        self.counters.acquire_waited += 1
        place = self._queue.join()
        self._open_wanted()
        return place

    def take(self) -> ServerConnection | None:
        """The same, if it can be had at once: one is idle, and so nobody waits."""
        if self._closed:
            return None
        server = self._take_idle()
        if server is not None:
            self.counters.acquire_count += 1
        return server

    def give_back(self, server: ServerConnection) -> None:
        """Take back a connection whose lease is over, and which was reset."""
        self._in_use.discard(server)
        now = self._last_used = self._clock.seconds()
        self._offer(server, now, now)

    def discard(self, server: ServerConnection) -> None:
        """A connection that was out on a lease is closed, or about to be."""
        self._in_use.discard(server)
        self._last_used = self._clock.seconds()
        self._open_wanted()

    def _take_idle(self) -> ServerConnection | None:
        """The connection used last of those that are idle and alive."""
        while self._idle:
            server = self._idle.pop()
            server.wake()
            end = server.end
            if end.closed or end.stirring or server.conversation.early:
                # What it has to say is for nobody: it died, or it is no longer in order.
                self.counters.lost += 1
                server.abort()
                continue
            self._in_use.add(server)
            return server
        return None

    def _offer(self, server: ServerConnection, now: float, idle_since: float) -> None:
        """
        A connection is free: for whoever waits, or for later.

        @param idle_since: since when nobody has used it
        """
        if self._closed:
            server.goodbye()
            return
        over = "its lifetime is over" if now >= server.expires else server.unsuited
        if over:
            self.counters.max_lifetime_closed += 1
            self._say_goodbye(server, over)
            self._open_wanted()
            return
        if self._queue:
            self._in_use.add(server)
            self._queue.serve(server)
            return
        if len(self._idle) >= self.settings.max_idle_connections and not self._end_one(now):
            self.counters.max_idle_closed += 1
            self._say_goodbye(server, "there are idle ones enough")
            return
        self._lay_down(server, idle_since)

    def _lay_down(self, server: ServerConnection, since: float) -> None:
        """Keep an idle connection: those idle for longest first."""
        server.idle_since = since
        at = len(self._idle)
        while at and self._idle[at - 1].idle_since > since:
            at -= 1
        self._idle.insert(at, server)
        server.rest(lambda: self._stirred(server))

    def _end_one(self, now: float) -> bool:
        """End an idle connection whose lifetime is over, to make room; whether there was one."""
        for server in self._idle:
            if now >= server.expires:
                self._outlived(server)
                return True
        return False

    def _outlived(self, server: ServerConnection) -> None:
        """End an idle connection whose lifetime is over."""
        self._idle.remove(server)
        self.counters.max_lifetime_closed += 1
        self._say_goodbye(server, "its lifetime is over")

    # Opening

    def _open_wanted(self) -> None:
        """Open as many as are waited for, or missing at the minimum, within the maximum."""
        if self._closed or self._pauses.pausing:
            return
        wanted = len(self._queue)
        if self.keep_warm or self.clients:
            wanted = max(wanted, self._minimum - len(self._idle))
        room = self.settings.max_open_connections - self.total
        for _ in range(min(wanted - self._opening, room)):
            self._open_one()

    @property
    def _minimum(self) -> int:
        return min(self.settings.min_idle_connections, self.settings.max_idle_connections)

    def _open_one(self) -> None:
        self._opening += 1
        spawn(self._open(), _log, "opening a server connection")

    async def _open(self) -> None:
        try:
            server = await self.server.login(self._account, self.database, {}, _SERVICE)
        except (DialError, Refused) as error:
            self._opening -= 1
            self._failed(error)
            return
        except BaseException:
            self._opening -= 1
            raise
        self._opening -= 1
        self.counters.opened += 1
        self._pauses.succeeded()
        self.last_error = ""
        self._fault = None
        lifetime = self.settings.connection_max_lifetime
        server.expires = server.created + lifetime * (1 - JITTER * self._random())
        self.token_age = server.token_age
        self._learn(server)
        _log.debug(
            "pool {pool}: connection opened to {address}",
            pool=self.name,
            address=str(server.address),
        )
        now = self._clock.seconds()
        self._offer(server, now, now)

    def _learn(self, server: ServerConnection) -> None:
        """Note what the server tells of itself."""
        if not self.parameters and server.parameters.get("is_superuser") == "on":
            _log.warn(
                "pool {pool}: the service user is a superuser: so is every client here",
                pool=self.name,
            )
        self.parameters = dict(server.parameters)

    def _failed(self, error: DialError | Refused) -> None:
        """A connection could not be opened: who waits is told, unless others may still help."""
        self.counters.open_failures += 1
        iam = self.settings.aws_iam_auth is not None
        if isinstance(error, DialError):
            fatal = unreachable(error, iam)
        elif iam and error.error.sqlstate.startswith("28"):
            fatal = token_refused(error.error)
        else:
            fatal = service_refused(error.error, error.authenticated)
        self._fault = fatal
        starting = fatal.sqlstate == STARTING_UP
        if not self._closed:
            self._pauses.failed(starting)
        if fatal.reason != self.last_error:
            _log.error("pool {pool}: no connection: {reason}", pool=self.name, reason=fatal.reason)
        self.last_error = fatal.reason
        if not self._in_use and not self._opening and not starting:
            self._queue.turn_away(fatal)

    # Care

    def tick(self, now: float) -> None:
        """Renew, thin out and check: called about once a second."""
        self._renew(now)
        self._thin_out(now)
        self._open_wanted()
        for server in [
            s for s in self._idle if now - s.checked >= self.settings.health_check_period
        ]:
            self._idle.remove(server)
            self._in_use.add(server)
            server.wake()
            spawn(self._check(server), _log, "checking a server connection")

    def _renew(self, now: float) -> None:
        """
        End the idle connections whose lifetime is over.

        At the minimum a new one is opened first: the old one goes when it is there.
        """
        for server in [server for server in self._idle if now >= server.expires]:
            missing = self._minimum - (len(self._idle) - 1)
            warm = self.keep_warm or self.clients
            if warm and missing > 0 and now < server.expires + self.settings.connect_timeout:
                if self._opening < missing and self.total < self.settings.max_open_connections:
                    self._open_one()
                if self._opening:
                    continue
            self._outlived(server)

    def _thin_out(self, now: float) -> None:
        """End the connections that were idle too long, down to the minimum."""
        least = self._minimum if self.keep_warm or self.clients else 0
        while len(self._idle) > least:
            server = self._idle[0]
            if now - server.idle_since < self.settings.connection_max_idle_time:
                break
            self._idle.popleft()
            self.counters.max_idle_time_closed += 1
            self._say_goodbye(server, "it was idle too long")

    async def _check(self, server: ServerConnection) -> None:
        """See whether an idle connection still answers."""
        try:
            await server.run(_NOTHING)
        except Exception as error:
            if not isinstance(error, (Lost, Failed, ProtocolError)):
                _log.failure("pool {pool}: health check", pool=self.name)
            self.counters.lost += 1
            server.abort()
            self.discard(server)
            return
        now = server.checked = self._clock.seconds()
        self._in_use.discard(server)
        self._offer(server, now, server.idle_since)

    def _stirred(self, server: ServerConnection) -> None:
        """An idle connection said something, or ended."""
        reason = server.overheard()
        if not reason:
            server.rest(lambda: self._stirred(server))
            self.parameters = dict(server.parameters)
            return
        if server in self._idle:
            self._idle.remove(server)
            self.counters.lost += 1
        _log.debug("pool {pool}: an idle connection ended: {reason}", pool=self.name, reason=reason)
        server.abort()

    def _say_goodbye(self, server: ServerConnection, reason: str) -> None:
        _log.debug("pool {pool}: connection closed: {reason}", pool=self.name, reason=reason)
        server.goodbye()

    def renew(self, server: Server, account: Account) -> None:
        """
        Open connections by these from now on: certificates or the password may be new.

        The connection's settings must be the same.
        """
        self.server = server
        self._account = account

    # The end

    def close(self, heir: Pool | None = None) -> None:
        """
        Close what is idle now, and what is in use when it comes back.

        @param heir: the pool that those who wait go over to; None: they are
            turned away
        """
        if self._closed:
            return
        self._closed = True
        self._heir = heir
        _log.info("pool {pool} closed", pool=self.name)
        self._pauses.stop()
        while self._idle:
            self._idle.pop().goodbye()
        if heir is None:
            self._queue.turn_away(shutdown("the pool was closed"))
        else:
            self._queue.move(heir.acquire)
        self._queue.stop()

    def abort(self) -> None:
        """Close everything at once."""
        self.close()
        for server in list(self._in_use):
            server.abort()
        self._in_use.clear()
