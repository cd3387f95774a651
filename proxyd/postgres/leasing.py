"""
The part of a session that gets a server for it, and gives it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, unique
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.net.end import End
from proxyd.net.subject import Subject
from proxyd.postgres.answers import Fatal, lost_server
from proxyd.postgres.lease import Lease
from proxyd.postgres.pool import Pool
from proxyd.postgres.restoring import restoring_batch
from proxyd.postgres.server_connection import Failed, Message, ServerConnection
from proxyd.postgres.session_lines import SessionLines
from proxyd.postgres.settings import Settings, greeting_of, learn, wanted
from proxyd.target import Principal

if TYPE_CHECKING:
    from proxyd.postgres.listener import PostgresListener

_log = Logger()

Leased = Callable[[BaseException | None], None]

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

    def lease(self, early: bytes, leased: Leased) -> None:
        """
        Get a server connection, with the client's settings on it.

        @param early: the client's first bytes; sent ahead where that is safe,
            else kept for the join
        @param leased: called with None when it is there, else with why not: a
            Fatal (there is none to be had, or a setting was refused), or
            CancelledError
        """
        self._rest = early
        _Getting(self, leased).begin()

    def leased(self) -> Deferred[Mapping[str, str]]:
        """The same without first bytes, to be awaited: what the server tells of itself."""
        done: Deferred[Mapping[str, str]] = Deferred(lambda _: self._stop_waiting())

        def leased(error: BaseException | None) -> None:
            if done.called:
                return
            if error is None and self._lease is not None:
                done.callback(self._lease.server.parameters)
            else:
                done.errback(error or CancelledError())

        self.lease(b"", leased)
        return done

    def set_again(self, leased: Leased, notified: Callable[[bytes], None]) -> None:
        """
        Put back those of the client's settings that it has reset.

        The Ends must have been parted, at a border between two transactions.

        @param leased: called as by L{lease}; not where the session has ended meanwhile
        @param notified: takes the notifications that come for the client meanwhile
        """
        lease, self._lease = self._lease, None
        assert lease is not None
        server = lease.server
        server.end.talk(server.conversation)
        server.conversation.put_back(server.end.take_held())

        def answered(answer: list[Message], error: Exception | None) -> None:
            lease.was_reset = lease.flow.watch = False
            if self.state is State.CLOSED:
                self._give_back(lease)
                return
            self._lease = lease
            if error is None:
                leased(None)
            elif isinstance(error, Failed):
                said = error.error
                leased(Fatal(said.sqlstate, said.message, said.detail, said.hint))
            else:
                server.abort()
                leased(lost_server(str(error)))

        server.ask(restoring_batch(self.settings.pairs), answered, notified=notified)

    def _stop_waiting(self) -> None:
        """Give up the place in the pool's queue, if there is one."""
        if self._acquiring is not None:
            self._acquiring.cancel()

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
        self._listener.finishing(lease)
        lease.finish(self._given_back)

    def _given_back(self, lease: Lease, reason: str) -> None:
        self._listener.finished(lease)
        if reason:
            _log.debug(
                "session {number}: its server connection was closed: {reason}",
                number=self.number,
                reason=reason,
            )


def part(end: End, session: Subject, lease: Lease | None) -> None:
    """End the join of a client's End, if it is joined: its server talks with us again."""
    if lease is None:
        end.part(session)
        return
    server = lease.server
    end.part(session, server.conversation)
    if server.end.subject is session:
        # The client's End was lost, and they were parted by that.
        server.end.talk(server.conversation)


class _Getting:
    """A server connection on its way to a session."""

    __slots__ = ("_ahead", "_attempts", "_lease", "_leased", "_session")

    def __init__(self, session: Leasing, leased: Leased) -> None:
        self._session = session
        self._leased = leased
        self._lease: Lease | None = None
        self._attempts = 0
        self._ahead = b""

    def begin(self) -> None:
        """Take a connection that is idle, or wait for one."""
        session = self._session
        pool = session.pool
        server = pool.take()
        if server is None and pool.replaced:
            session._use(pool.current)
            pool = session.pool
            server = pool.take()
        if server is not None:
            self._prepare(server)
            return
        place = session._acquiring = pool.acquire()
        place.addCallback(self._acquired).addErrback(self._not_acquired)

    def _acquired(self, server: ServerConnection) -> None:
        session = self._session
        session._acquiring = None
        session._use(session.pool.holder_of(server))
        self._prepare(server)

    def _not_acquired(self, failure: Failure) -> None:
        self._session._acquiring = None
        error = failure.value
        if not isinstance(error, (Fatal, CancelledError)):
            _log.failure("getting a server connection failed", failure)
            error = lost_server("internal error")
        self._leased(error)

    def _prepare(self, server: ServerConnection) -> None:
        """Put the settings on it."""
        session = self._session
        self._attempts += 1
        # Settings whose effect is known are good: what follows them need not wait.
        # A role is known to nobody: whatever it is refused for must not run without it.
        settings = session.settings
        known = settings.pairs in session.pool.greetings
        safe = (known or greeting_of(session.pool, settings) is not None) and not settings.sets_role
        self._ahead = session._rest if safe else b""
        lease = self._lease = session._new_lease(server)
        lease.prepare(wanted(settings, server.parameters), self._ahead, self._prepared)

    def _prepared(self, rest: bytes, error: Exception | None) -> None:
        session, lease = self._session, self._lease
        assert lease is not None
        fatal: Fatal | None = None
        if error is None:
            learn(session.pool, session.settings, lease.server.parameters)
        elif isinstance(error, Failed):
            said = error.error
            fatal = Fatal(said.sqlstate, said.message, said.detail, said.hint)
        else:
            fatal = lost_server(str(error))
            lease.server.abort()
            if not self._ahead and self._attempts < _ATTEMPTS and session.state is not State.CLOSED:
                # It had died unseen, and no byte of the client's was sent: another will do.
                session.pool.discard(lease.server)
                self.begin()
                return
        if self._ahead:
            session._rest = rest
        if session.state is State.CLOSED:
            session._give_back(lease)
            self._leased(CancelledError())
            return
        session._lease = lease
        self._leased(fatal)
