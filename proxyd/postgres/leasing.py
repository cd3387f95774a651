"""
The part of a session that gets a server for it, and gives it back.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from proxyd.errors import ProtocolError
from proxyd.net.tasks import spawn
from proxyd.postgres.answers import Fatal, lost_server
from proxyd.postgres.conversation import Lost
from proxyd.postgres.lease import Lease
from proxyd.postgres.pool import Pool
from proxyd.postgres.server_connection import Failed, ServerConnection
from proxyd.postgres.session_lines import SessionLines
from proxyd.postgres.settings import Settings, learn, told, wanted
from proxyd.target import Principal

if TYPE_CHECKING:
    from proxyd.postgres.listener import PostgresListener

_log = Logger()

_ATTEMPTS = 3
"""Server connections that are tried when one after the other turns out to be dead."""


@unique
class State(Enum):
    """What a session is doing."""

    LOGIN = "logging in"
    IDLE = "idle, without a server"
    WAITING = "waiting for a server"
    JOINED = "on a server"
    LEAVING = "on a server, to be closed when it has answered"
    CLOSED = "closed"


class Leasing:
    """
    A client that logged in, and the server connection it holds, if it holds one.

    @ivar number: what the log and the API call the session
    @ivar principal: who the client is
    @ivar source: its address, with the port
    @ivar pool: where its server connections come from
    @ivar settings: what is set on them
    @ivar state: what the session is doing
    """

    __slots__ = (
        "_acquiring",
        "_lease",
        "_lines",
        "_listener",
        "_rest",
        "number",
        "pool",
        "principal",
        "settings",
        "source",
        "state",
    )

    def __init__(
        self,
        listener: PostgresListener,
        number: int,
        principal: Principal,
        source: str,
        pool: Pool,
        settings: Settings,
    ) -> None:
        self._listener = listener
        self.number = number
        self.principal = principal
        self.source = source
        self.pool = pool
        self.settings = settings
        self.state = State.LOGIN
        self._lease: Lease | None = None
        self._acquiring: Deferred[ServerConnection] | None = None
        self._rest = b""
        self._lines: SessionLines | None = None

    async def lease(self, early: bytes = b"") -> ServerConnection:
        """
        Get a server connection, with the client's settings on it.

        @param early: the client's first bytes; sent ahead where that is safe,
            else kept for the join
        @raise Fatal: there is none to be had, or a setting was refused
        """
        # Settings whose effect is known are good: what follows them need not wait.
        # A role is known to nobody: whatever it is refused for must not run without it.
        safe = told(self.pool, self.settings) is not None and not self.settings.sets_role
        ahead = early if safe else b""
        for attempt in range(_ATTEMPTS):
            server = await self._acquire()
            lease = self._new_lease(server)
            fatal: Fatal | None = None
            try:
                settings = wanted(self.settings, server.parameters)
                self._rest = await lease.prepare(settings, ahead)
                learn(self.pool, self.settings, server.parameters)
            except Failed as failed:
                error = failed.error
                fatal = Fatal(error.sqlstate, error.message, error.detail, error.hint)
            except (Lost, ProtocolError) as broken:
                fatal = lost_server(str(broken))
                server.abort()
                if not ahead and attempt + 1 < _ATTEMPTS and self.state is not State.CLOSED:
                    # It had died unseen, and no byte of the client's was sent: another will do.
                    self.pool.discard(server)
                    continue
            break
        if not ahead:
            self._rest = early
        if self.state is State.CLOSED:
            self._give_back(lease)
            raise CancelledError
        self._lease = lease
        if fatal is not None:
            raise fatal
        return server

    async def _acquire(self) -> ServerConnection:
        """Wait for a connection of the pool; L{cancel} and the session's end break it off."""
        self._use(self.pool.current)
        self._acquiring = self.pool.acquire()
        try:
            server = await self._acquiring
        finally:
            self._acquiring = None
        self._use(self.pool.holder_of(server))
        return server

    def _use(self, pool: Pool) -> None:
        """Belong to this pool: another one when the configuration was changed."""
        self.pool.clients -= 1
        pool.clients += 1
        self.pool = pool

    def _new_lease(self, server: ServerConnection) -> Lease:
        listener = self._listener
        lines = SessionLines(
            self.source, self.principal.user, listener.log_errors, listener.log_statements
        )
        self._lines = lines
        on_statement = lines.statement if listener.log_statements else None
        return Lease(self.pool, server, listener.clock, lines.error, on_statement)

    def _give_back(self, lease: Lease) -> None:
        """End a lease; the listener's stop waits for it."""
        self._listener.finishing(spawn(self._finish(lease), _log, "ending a lease"))

    async def _finish(self, lease: Lease) -> None:
        reason = await lease.finish()
        if reason:
            _log.debug(
                "session {number}: its server connection was closed: {reason}",
                number=self.number,
                reason=reason,
            )
