"""
The lease: who may use which server connection, for how long, and how it must be left.

A client's session holds a lease from its first message to its end. A server
connection goes to somebody else only by L{Lease.finish}, and only when all of
this is known of it: every request is answered, no message is half sent in
either direction, no transaction is open, no cancel request is under way, and
the reset was answered in full. On any doubt it is closed.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from proxyd.config.model import Connection
from proxyd.errors import DialError
from proxyd.net.tasks import spawn
from proxyd.postgres.conversation import Lost
from proxyd.postgres.pool import Pool
from proxyd.postgres.server_connection import Message, ServerConnection
from proxyd.postgres.settings import Setting, settings_request
from proxyd.wire.pg import messages
from proxyd.wire.pg.flow import IDLE, Flow

_log = Logger()

_NAME = "application_name"
_DISCARD_ALL = messages.query("DISCARD ALL")
_ROLLBACK = messages.query("ROLLBACK")
_READY_IDLE = (messages.READY_FOR_QUERY, b"I")
_DISCARDED = [(messages.COMMAND_COMPLETE, b"DISCARD ALL\0"), _READY_IDLE]
_ROLLED_BACK = [(messages.COMMAND_COMPLETE, b"ROLLBACK\0"), _READY_IDLE]

Prepared = Callable[[bytes, Exception | None], None]
Finished = Callable[["Lease", str], None]


class Lease:
    """
    One server connection in the hands of one client's session.

    @ivar server: the connection
    @ivar flow: what client and server owe each other on it
    @ivar was_reset: the client has taken off what its start-up packet had set,
        see L{proxyd.postgres.restoring}; C{flow.watch} is set then
    """

    __slots__ = (
        "_cancelling",
        "_clock",
        "_finished",
        "_pool",
        "_settings",
        "_unscanned",
        "_watchers",
        "flow",
        "server",
        "was_reset",
    )

    def __init__(
        self,
        pool: Pool,
        server: ServerConnection,
        clock: IReactorTime,
        on_error: Callable[[bytes], None],
        on_statement: Callable[[int, bytes, int], None] | None,
    ) -> None:
        """
        @param on_error: takes the body of each ErrorResponse of the server
        @param on_statement: see L{Flow}
        """
        self.server = server
        self.flow = Flow(self._noted, on_error, on_statement)
        self.was_reset = False
        self._pool = pool
        self._settings: Connection = pool.settings
        self._clock = clock
        self._cancelling = False
        self._unscanned = b""
        self._watchers: list[Deferred[None]] = []
        self._finished: Finished | None = None

    def _noted(self, body: bytes) -> None:
        """Take a ParameterStatus; the name that we gave the client's session may be gone by it."""
        parameters = self.server.parameters
        before = parameters.get(_NAME)
        self.server.note_parameter(body)
        name = parameters.get(_NAME)
        if name != before:
            self.was_reset = name == self._pool.parameters.get(_NAME)
            self.flow.watch = self.flow.watch or self.was_reset

    def prepare(self, settings: tuple[Setting, ...], early: bytes, prepared: Prepared) -> None:
        """
        Put the client's settings on the server.

        @param early: the client's first bytes, sent right behind them: only
            where it is known that the settings are good ones
        @param prepared: called with the start of a message that can't be sent
            yet, and with what went wrong: see L{ServerConnection.run}
        """
        rest = b""
        if early:
            sent = self.flow.client.scan(early, len(early))
            if sent < len(early):
                early, rest = early[:sent], early[sent:]
                if self.flow.client.stopped:
                    rest = b""
        if settings:
            request = settings_request(settings)
            self.server.ask(request, lambda _, error: prepared(rest, error), early)
            return
        if early:
            self.server.end.write(early)
        prepared(rest, None)

    @property
    def busy(self) -> bool:
        """Whether the server works on something that a cancel request can stop."""
        return not self.flow.answered or self.flow.batch_open

    def cancel(self) -> Deferred[None]:
        """
        Ask the server to give up what it is working on.

        Requests that come while one is under way join it. Fires when the
        server has taken note, or could not be asked; never fails.
        """
        done: Deferred[None] = Deferred()
        if not self.busy or self.server.end.closed:
            done.callback(None)
            return done
        self._watchers.append(done)
        if not self._cancelling:
            self._cancelling = True
            spawn(self._cancel(), _log, "cancelling a statement")
        return done

    async def _cancel(self) -> None:
        try:
            asking = Deferred.fromCoroutine(
                self._pool.server.cancel(self.server, lambda: self.busy)
            )
            asking.addTimeout(self._settings.connect_timeout, self._clock)
            await asking
        except (DialError, TimeoutError, Lost) as error:
            self.flow.doubt = self.flow.doubt or "a cancel request failed"
            _log.warn("a statement could not be cancelled: {reason}", reason=str(error))
        finally:
            self._cancelling = False
            watchers, self._watchers = self._watchers, []
            for watcher in watchers:
                watcher.callback(None)

    def finish(self, finished: Finished) -> None:
        """
        End the lease: the connection goes back to the pool, or is closed.

        The two Ends must have been parted.

        @param finished: called with the lease, and with the reason why its
            connection was closed: empty when it went back
        """
        self._finished = finished
        flow, end = self.flow, self.server.end
        if end.closed:
            self._over("it was lost")
        elif flow.reusable and end.clear and not self._cancelling:
            # As nearly all are left: there is nothing that L{_clear} would look for.
            self._reset()
        elif self.busy:
            self.cancel().addCallback(lambda _: self._clear())
        elif self._cancelling:
            self.cancel_done().addCallback(lambda _: self._clear())
        else:
            self._clear()

    def give_up(self) -> None:
        """Close the connection of a lease that is being finished: there is no time left."""
        self.server.conversation.ignore()
        self._over("proxyd stops")

    def _clear(self) -> None:
        """No cancel request is under way: see what the client left behind."""
        flow, end = self.flow, self.server.end
        if self._finished is None:
            return
        self._unscanned = end.take_held()
        if flow.doubt:
            self._over(flow.doubt)
        elif end.pending or not flow.client.at_border:
            self._over("a message was left half sent")
        elif flow.batch_open:
            # A Sync of ours would commit what the client has not: the server's own
            # answer to a client that goes is to abort, and so it is to this one.
            self._over("an extended batch was left open")
        else:
            if flow.copying:
                self._say(messages.copy_fail("the client went away"))
            if self._silent:
                self._reset()
            else:
                self.server.deadlines.add(self.server.conversation)
                self.server.conversation.hear(self)

    @property
    def _silent(self) -> bool:
        """Whether the server has said all that it had to say."""
        flow = self.flow
        return not self._unscanned and flow.server.at_border and flow.answered

    def heard(self, data: bytes) -> None:
        """Throw away what the server still had to say."""
        flow = self.flow
        data = self._unscanned + data
        try:
            seen = flow.server.scan(data, len(data))
        except Exception:
            _log.failure("a lease could not be ended in order")
            self._over("internal error")
            return
        self._unscanned = data[seen:]
        if flow.doubt:
            self._over(flow.doubt)
        elif self._silent:
            self.server.deadlines.discard(self.server.conversation)
            self._reset()
        else:
            self.server.conversation.hear(self)

    def unheard(self, reason: str) -> None:
        """It broke off, or did not come to an end in C{connect_timeout}."""
        self._over(reason)

    def _reset(self) -> None:
        """All is said: make the connection as good as new."""
        if self._settings.reset == "close":
            self._over("reset: close")
        elif self.flow.status != IDLE:
            self.server.ask(_ROLLBACK, self._rolled_back)
        else:
            self.server.ask(_DISCARD_ALL, self._discarded)

    def _rolled_back(self, answer: list[Message], error: Exception | None) -> None:
        if error is None and answer == _ROLLED_BACK:
            self.flow.status = IDLE
            self.server.ask(_DISCARD_ALL, self._discarded)
        else:
            self._over(str(error or "ROLLBACK was not answered as it should be"))

    def _discarded(self, answer: list[Message], error: Exception | None) -> None:
        if error is None and answer == _DISCARDED:
            self._over("")
        else:
            self._over(str(error or "DISCARD ALL was not answered as it should be"))

    def _over(self, reason: str) -> None:
        """Give the connection back, or close it, once."""
        finished, self._finished = self._finished, None
        if finished is None:
            return
        server, pool = self.server, self._pool
        if not reason:
            pool.give_back(server)
        else:
            server.deadlines.discard(server.conversation)
            if reason != "reset: close":
                pool.counters.reset_failures += 1
            if self.flow.reusable and not server.end.closed:
                server.goodbye()
            else:
                server.abort()
            pool.discard(server)
        self.flow.let_go()
        finished(self, reason)

    def cancel_done(self) -> Deferred[None]:
        """Fires when no cancel request is under way."""
        done: Deferred[None] = Deferred()
        if not self._cancelling:
            done.callback(None)
        else:
            self._watchers.append(done)
        return done

    def _say(self, data: bytes) -> None:
        """Send in the client's stead."""
        self.flow.client.scan(data, len(data))
        self.server.end.write(data)
