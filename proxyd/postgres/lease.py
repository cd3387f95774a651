"""
The lease: who may use which server connection, for how long, and how it must be left.

A client's session holds a lease from its first message to its end. A server
connection goes to somebody else only by L{Lease.finish}, and only when all of
this is known of it: every request is answered, no message is half sent in
either direction, no transaction is open, no cancel request is under way, and
the reset was answered in full. On any doubt it is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from proxyd.config.model import Connection
from proxyd.errors import DialError, ProtocolError
from proxyd.net.tasks import spawn
from proxyd.postgres.conversation import Lost
from proxyd.postgres.pool import Pool
from proxyd.postgres.server_connection import Failed, ServerConnection
from proxyd.postgres.settings import Setting
from proxyd.wire.pg import messages
from proxyd.wire.pg.flow import Flow

_log = Logger()

_DISCARDED = (messages.COMMAND_COMPLETE, b"DISCARD ALL\0")
_READY_IDLE = (messages.READY_FOR_QUERY, b"I")
_ROLLED_BACK = (messages.COMMAND_COMPLETE, b"ROLLBACK\0")


class Lease:
    """
    One server connection in the hands of one client's session.

    @ivar server: the connection
    @ivar flow: what client and server owe each other on it
    """

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
        self.flow = Flow(self._note_parameter, on_error, on_statement)
        self._pool = pool
        self._settings: Connection = pool.settings
        self._clock = clock
        self._cancelling = False
        self._unscanned = b""
        self._watchers: list[Deferred[None]] = []

    async def prepare(self, settings: Sequence[Setting], early: bytes = b"") -> bytes:
        """
        Put the client's settings on the server.

        @param early: the client's first bytes, sent right behind them: only
            where it is known that the settings are good ones
        @return: the start of a message that can't be sent yet
        @raise Failed, Lost, ProtocolError: see L{ServerConnection.run}
        """
        sent = self.flow.client.scan(early, len(early)) if early else 0
        await self.server.configure(settings, early[:sent])
        return b"" if self.flow.client.stopped else early[sent:]

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
            asking = Deferred.fromCoroutine(self._pool.server.cancel(self.server))
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

    async def finish(self) -> str:
        """
        End the lease: the connection goes back to the pool, or is closed.

        The two Ends must have been parted.

        @return: why it was closed; empty when it went back
        """
        try:
            reason = await self._settle()
        except (Lost, ProtocolError, Failed) as error:
            reason = str(error)
        except CancelledError:
            reason = "proxyd stops"
        except Exception:
            _log.failure("a lease could not be ended in order")
            reason = "internal error"
        if not reason:
            self._pool.give_back(self.server)
            return ""
        if reason != "reset: close":
            self._pool.counters.reset_failures += 1
        if self.flow.reusable and not self.server.end.closed:
            self.server.goodbye()
        else:
            self.server.abort()
        self._pool.discard(self.server)
        return reason

    async def _settle(self) -> str:
        """Bring the server to rest and reset it; why that can't be, or nothing."""
        flow, end = self.flow, self.server.end
        if end.closed:
            return "it was lost"
        if self.busy:
            await self.cancel()
        elif self._cancelling:
            await self.cancel_done()
        if flow.doubt:
            return flow.doubt
        self._unscanned = end.take_held()
        if end.pending or not flow.client.at_border:
            return "a message was left half sent"
        if flow.batch_open:
            # A Sync of ours would commit what the client has not: the server's own
            # answer to a client that goes is to abort, and so it is to this one.
            return "an extended batch was left open"
        if flow.copying:
            self._say(messages.copy_fail("the client went away"))
        doubt = await self._hear_out()
        if doubt:
            return doubt
        if self._settings.reset == "close":
            return "reset: close"
        if flow.status != ord("I"):
            if await self.server.run(messages.query("ROLLBACK")) != [_ROLLED_BACK, _READY_IDLE]:
                return "ROLLBACK was not answered as it should be"
            flow.status = ord("I")
        if await self.server.run(messages.query("DISCARD ALL")) != [_DISCARDED, _READY_IDLE]:
            return "DISCARD ALL was not answered as it should be"
        return ""

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

    async def _hear_out(self) -> str:
        """
        Read what the server still has to say, and throw it away.

        @return: the flow's doubt
        @raise Lost: it broke off, or did not come to an end in C{connect_timeout}
        """
        flow, conversation = self.flow, self.server.conversation
        self.server.deadlines.add(conversation)
        try:
            while not (flow.answered and flow.server.at_border and not self._unscanned):
                data = self._unscanned + await conversation.chunk()
                seen = flow.server.scan(data, len(data))
                self._unscanned = data[seen:]
                if flow.doubt:
                    break
        finally:
            self.server.deadlines.discard(conversation)
        return flow.doubt

    def _note_parameter(self, body: bytes) -> None:
        self.server.note_parameter(body)
