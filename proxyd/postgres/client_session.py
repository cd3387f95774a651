"""
One PostgreSQL client's session, from its first byte to its last.

Start-up and login are a coroutine, in L{proxyd.postgres.client_login}. Then the
session waits, without a server, for the client's first message; from there on
it holds a lease, and the link carries the bytes. How it ends is all here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, unique
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from proxyd.errors import ProtocolError
from proxyd.net.end import End
from proxyd.net.relay import join
from proxyd.net.tasks import spawn
from proxyd.postgres.answers import Fatal, lost_server, shutdown
from proxyd.postgres.conversation import Lost
from proxyd.postgres.lease import Lease
from proxyd.postgres.pool import Pool
from proxyd.postgres.server_connection import Failed, ServerConnection
from proxyd.postgres.session_lines import SessionLines
from proxyd.postgres.settings import Settings, learn, status_block, told, wanted
from proxyd.target import Principal
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import PgProtocolError, error_response
from proxyd.wire.pg.skip import BatchSkip

if TYPE_CHECKING:
    from proxyd.postgres.listener import PostgresListener

_log = Logger()

_ATTEMPTS = 3

_PROBE_EVERY = 2.0
"""Seconds between two looks whether a client that sent its last byte still reads."""


@unique
class State(Enum):
    """What a session is doing."""

    LOGIN = "logging in"
    IDLE = "idle, without a server"
    WAITING = "waiting for a server"
    JOINED = "on a server"
    LEAVING = "on a server, to be closed when it has answered"
    CLOSED = "closed"


class ClientSession:
    """
    A client that logged in.

    @ivar state: what it is doing
    @ivar principal: who the client is
    """

    __slots__ = (
        "_acquiring",
        "_cancels",
        "_end_reason",
        "_ending",
        "_lease",
        "_lines",
        "_listener",
        "_next_probe",
        "_rest",
        "_said_goodbye",
        "_skip",
        "began",
        "cancel_key",
        "database",
        "end",
        "number",
        "pid",
        "pool",
        "principal",
        "settings",
        "state",
    )

    def __init__(
        self,
        listener: PostgresListener,
        end: End,
        number: int,
        principal: Principal,
        database: str,
        pool: Pool,
        settings: Settings,
    ) -> None:
        """
        @param number: what the log and the API call it
        @param database: the name that the client asked for
        """
        self._listener = listener
        self.end = end
        self.number = number
        self.principal = principal
        self.database = database
        self.pool = pool
        self.settings = settings
        self.state = State.LOGIN
        self.began = listener.clock.seconds()
        self.pid = 0
        self.cancel_key = b""
        self._lease: Lease | None = None
        self._acquiring: Deferred[ServerConnection] | None = None
        self._skip: BatchSkip | None = None
        self._ending: Fatal | None = None
        self._end_reason = ""
        self._rest = b""
        self._said_goodbye = False
        self._cancels: tuple[Deferred[None], ...] = ()
        self._lines: SessionLines | None = None
        self._next_probe: IDelayedCall | None = None

    # Getting a server

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
            spawn(self._finish(lease), _log, "ending a lease")
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
        lines = SessionLines(self.principal, listener.log_errors, listener.log_statements)
        self._lines = lines
        on_statement = lines.statement if listener.log_statements else None
        return Lease(self.pool, server, listener.clock, lines.error, on_statement)

    def greet(self, parameters: Mapping[str, str]) -> None:
        """
        Tell the client that it is in, and wait for its first message.

        @param parameters: what it is told by ParameterStatus
        """
        self.pid, key = self._listener.keys.issue(self)
        if self.end.closed:
            self.close("the client was lost")
            return
        # From here on it is the session that learns when the client is lost.
        self.end.talk(self)
        self.end.write(
            b"".join(
                (
                    messages.authentication_ok(),
                    status_block(tuple(parameters.items())),
                    messages.backend_key_data(self.pid, key),
                    messages.ready_for_query(),
                )
            )
        )
        if self.state is State.CLOSED:
            return
        if self._lease is None:
            self._wait()
        else:
            self._join()

    def _wait(self) -> None:
        self.state = State.IDLE
        self.end.talk(self)
        self.end.resume()
        if self._listener.draining:
            self.drain()

    def early(self, data: bytes) -> None:
        """Take what the client sent before it was greeted."""
        if self.state is State.IDLE:
            self.received(self.end, data)
        elif self.state is State.JOINED:
            self.end.carry(data)

    def received(self, end: End, data: bytes) -> None:
        """The client's first message, or what it says while it waits for a server."""
        if self._skip is not None:
            self._skipped(data)
            return
        end.pause()
        if data[:1] == b"X":
            self.close("the client said goodbye")
            return
        self.state = State.WAITING
        spawn(self._serve(data), _log, "getting a server connection")

    async def _serve(self, early: bytes) -> None:
        """Lease a server for the first message."""
        try:
            await self.lease(early)
        except CancelledError:
            if self.state is State.WAITING:
                self._refuse(early)
            return
        except Fatal as fatal:
            self.fail(fatal)
            return
        if self.state is State.WAITING:
            self._join()

    def _join(self) -> None:
        lease = self._lease
        assert lease is not None
        server = lease.server
        if server.end.closed or server.conversation.lost:
            self.fail(lost_server(server.conversation.lost))
            return
        self.state = State.JOINED
        flow = lease.flow
        join(self.end, server.end, self, flow, (flow.client, flow.server))
        answer = server.conversation.take_early()
        if answer:
            server.end.carry(answer)
        rest, self._rest = self._rest, b""
        if self.state is State.JOINED:
            self.end.carry(rest)
        if self._cancels and self._lease is not None:
            asked, self._cancels = self._cancels, ()
            asking = self._lease.cancel()
            for done in asked:
                asking.addCallback(done.callback)
        if self._ending is not None or self._listener.draining:
            self.drain()

    # Events of the two sockets

    def alerted(self, end: End) -> None:
        """The flow asks for attention."""
        lease = self._lease
        if lease is None or self.state is State.CLOSED:
            return
        flow = lease.flow
        if flow.server.stopped:
            self.fail(lost_server("it broke the protocol"))
        elif flow.client.stopped and self.state is State.JOINED:
            error = flow.client.error
            if error is None:
                self._leave("the client said goodbye", self._listener.goodbye_time)
            else:
                self._ending = Fatal(error.sqlstate, str(error))
                self._leave(str(error), self._listener.goodbye_time)
        elif flow.watch:
            self._settled()

    def finished(self, end: End) -> None:
        """One of the two sends no more."""
        lease = self._lease
        if lease is not None and end is lease.server.end:
            self._server_left("the server closed the connection")
        elif self.state is State.JOINED:
            self._leave("the client closed the connection", 0)
        elif self.state is not State.LEAVING:
            self.close("the client closed the connection")

    def gone(self, end: End, reason: str) -> None:
        """One of the two was lost."""
        lease = self._lease
        if lease is not None and end is lease.server.end:
            self._server_left(reason)
        else:
            self.close(f"the client was lost: {reason}")

    def _server_left(self, reason: str) -> None:
        """The server is gone; where it said why itself, that is all the client needs."""
        if self._said_goodbye:
            if self._ending is None:
                self.close(self._end_reason)
            else:
                self.fail(self._ending)
        elif self._lines is not None and self._lines.last_words:
            self.close(f"the server ended it: {self._lines.last_words}")
        else:
            self.fail(lost_server(reason))

    # Leaving in order

    def _leave(self, reason: str, patience: float) -> None:
        """
        The client sends no more: let the server answer what it was asked, then close.

        @param patience: seconds for which nobody looks whether the client is
            still there to read the answers
        """
        lease = self._lease
        assert lease is not None
        self.state = State.LEAVING
        self._end_reason = reason
        self.end.pause()
        lease.flow.watch = True
        lease.flow.break_off()
        if lease.flow.copying:
            # The server waits for data that will not come.
            self.close(reason)
        elif not self._settled():
            self._next_probe = self._listener.clock.callLater(patience, self._probe)

    def _settled(self) -> bool:
        """Close, if the server has come to rest and that is waited for."""
        lease = self._lease
        assert lease is not None
        flow = lease.flow
        if self.state is State.LEAVING:
            if not flow.answered or not flow.server.at_border or flow.copying:
                if flow.doubt:
                    self._hand_over_goodbye()
                return False
            if self._ending is not None:
                self.fail(self._ending)
            else:
                self.close(self._end_reason)
            return True
        if self._ending is None or not flow.at_rest:
            return False
        self.fail(self._ending)
        return True

    def _hand_over_goodbye(self) -> None:
        """
        Let the server itself end a session of which nobody knows what is still owed.

        It answers what it was asked, and then closes; the connection would not
        have been used again.
        """
        lease = self._lease
        assert lease is not None
        if lease.flow.client.at_border and not self._said_goodbye:
            self._said_goodbye = True
            lease.server.end.write(messages.TERMINATE)

    def _probe(self) -> None:
        """
        Look whether a client that sent FIN still reads, by a message it may ignore.

        A client that only closed its sending half reads a ParameterStatus it
        knows already; the kernel of one that is gone answers by a reset, and
        the statement can be cancelled.
        """
        self._next_probe = None
        lease = self._lease
        if self.state is not State.LEAVING or lease is None:
            return
        if lease.flow.copying:
            self.close(self._end_reason)
            return
        if lease.flow.server.at_border and not self.end.pending and not lease.server.end.held:
            name = "application_name"
            value = lease.server.parameters.get(name, "")
            self.end.write(messages.parameter_status(name, value))
        if self.state is State.LEAVING:
            self._next_probe = self._listener.clock.callLater(_PROBE_EVERY, self._probe)

    # From outside

    def drain(self, reason: str = "proxyd is stopping") -> None:
        """End the session with 57P01 as soon as it is between two transactions."""
        fatal = shutdown(reason)
        if self.state in (State.LOGIN, State.IDLE, State.WAITING):
            self.fail(fatal)
        elif self.state in (State.JOINED, State.LEAVING) and self._lease is not None:
            self._ending = self._ending or fatal
            self._lease.flow.watch = True
            if self.state is State.JOINED:
                self._settled()

    def kill(self, reason: str) -> None:
        """End the session now, whatever it is doing."""
        self.fail(shutdown(reason))

    def cancel(self) -> Deferred[None]:
        """
        The client wants its statement stopped.

        Fires when the server has taken note; an idle session is not touched.
        """
        done: Deferred[None] = Deferred()
        if self.state is State.WAITING and self._acquiring is not None:
            self._acquiring.cancel()
            done.callback(None)
        elif self.state is State.WAITING:
            # Its statement is on its way to a server.
            self._cancels += (done,)
        elif self.state in (State.JOINED, State.LEAVING) and self._lease is not None:
            return self._lease.cancel()
        else:
            done.callback(None)
        return done

    def _refuse(self, early: bytes) -> None:
        """The request was cancelled before a server had it: skip it, and wait for the next."""
        self.end.write(error_response("ERROR", "57014", "canceling statement due to user request"))
        if self.state is State.CLOSED:
            return
        self._skip = BatchSkip()
        self.end.talk(self)
        self._skipped(early)

    def _skipped(self, data: bytes) -> None:
        skip = self._skip
        assert skip is not None
        try:
            skip.receive_data(data)
        except PgProtocolError as error:
            self.fail(Fatal(error.sqlstate, str(error)))
            return
        if not skip.done:
            self.end.resume()
            return
        self._skip = None
        if skip.terminated:
            self.close("the client said goodbye")
            return
        self.end.write(messages.ready_for_query())
        if self.state is State.CLOSED:
            return
        self._wait()
        if skip.trailing_data and self.state is State.IDLE:
            self.received(self.end, skip.trailing_data)

    # The end

    def fail(self, fatal: Fatal) -> None:
        """End the session, and tell the client why, if a message border allows it."""
        if self.state is State.CLOSED:
            return
        lease = self._lease
        at_border = lease is None or (lease.flow.server.at_border and not lease.flow.server.stopped)
        self._close(fatal.reason, fatal.encode() if at_border else None)

    def close(self, reason: str) -> None:
        """End the session; the client knows why."""
        if self.state is not State.CLOSED:
            self._close(reason, b"")

    def _close(self, reason: str, last_words: bytes | None) -> None:
        self.state = State.CLOSED
        if self._next_probe is not None:
            self._next_probe.cancel()
            self._next_probe = None
        if self._acquiring is not None:
            self._acquiring.cancel()
        for done in self._cancels:
            done.callback(None)
        self._cancels = ()
        lease, self._lease = self._lease, None
        end = self.end
        end.part(self)
        if lease is not None and not lease.server.end.closed:
            lease.server.end.talk(lease.server.conversation)
        if last_words is None:
            end.abort()
        elif last_words or end.pending:
            end.close(last_words)
        else:
            end.drop()
        self._listener.ended(self, reason, lease)
        if lease is not None:
            spawn(self._finish(lease), _log, "ending a lease")

    async def _finish(self, lease: Lease) -> None:
        """Give the server back."""
        reason = await lease.finish()
        if reason:
            _log.debug(
                "session {number}: its server connection was closed: {reason}",
                number=self.number,
                reason=reason,
            )
