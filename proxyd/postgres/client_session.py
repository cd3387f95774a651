"""
One PostgreSQL client's session, from its first byte to its last.

Start-up and login are a coroutine, in L{proxyd.postgres.client_login}. Then the
session waits, without a server, for the client's first message; from there on
it holds a lease, and the link carries the bytes. How it ends is all here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from proxyd.interfaces import IRevocable
from proxyd.net.end import End
from proxyd.net.relay import join
from proxyd.postgres.admission import Term
from proxyd.postgres.answers import Fatal, lost_server, shutdown
from proxyd.postgres.cancel import SHORT_KEY
from proxyd.postgres.departure import Departure
from proxyd.postgres.farewell import Farewell, can_be_told, within_message
from proxyd.postgres.leasing import Leasing, State, part
from proxyd.postgres.pool import Pool
from proxyd.postgres.settings import Greeting, Settings, retold
from proxyd.target import Principal
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import PgProtocolError, error_response
from proxyd.wire.pg.skip import BatchSkip

if TYPE_CHECKING:
    from proxyd.postgres.listener import PostgresListener

_log = Logger()

_READY = messages.ready_for_query()


@implementer(IRevocable)
class ClientSession(Leasing):
    """
    A client that logged in.

    @ivar state: what it is doing
    @ivar principal: who the client is
    """

    __slots__ = (
        "_cancels",
        "_departure",
        "_ending",
        "_skip",
        "_told",
        "began",
        "cancel_key",
        "database",
        "end",
        "pid",
        "term",
    )

    def __init__(
        self,
        listener: PostgresListener,
        end: End,
        number: int,
        principal: Principal,
        source: str,
        database: str,
        pool: Pool,
        settings: Settings,
        term: Term | None = None,
    ) -> None:
        """
        @param number: what the log and the API call it
        @param source: the client's address, with the port
        @param database: the name that the client asked for
        @param term: what ends the session before its client does
        """
        Leasing.__init__(self, listener, number, principal, source, pool, settings)
        self.end = end
        self.database = database
        self.term = term
        self.began = listener.clock.seconds()
        self.pid = 0
        self.cancel_key = b""
        self._skip: BatchSkip | None = None
        self._told: Mapping[str, str] = {}
        self._ending: Fatal | None = None
        self._departure: Departure | None = None
        self._cancels: tuple[Deferred[None], ...] = ()

    @property
    def over(self) -> bool:
        """Whether the session has ended."""
        return self.state is State.CLOSED

    # Getting a server

    def greet(self, greeting: Greeting, key_length: int = SHORT_KEY) -> None:
        """
        Tell the client that it is in, and wait for its first message.

        @param key_length: bytes of its cancel key
        """
        self.pid, key = self._listener.keys.issue(self, key_length)
        end = self.end
        if end.closed:
            self.close("the client was lost")
            return
        self._told = greeting.told
        # From here on it is the session that learns when the client is lost.
        end.talk(self)
        end.write(greeting.said + messages.backend_key_data(self.pid, key) + _READY)
        if self.state is State.CLOSED:
            return
        if self._lease is None:
            self._wait()
        else:
            self._join()

    def _wait(self) -> None:
        self.state = State.IDLE
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
        self.lease(data, self._served)

    def _served(self, error: BaseException | None) -> None:
        """A server was leased for the first message, or could not be."""
        if isinstance(error, Fatal):
            self.fail(error)
        elif self.state is State.WAITING:
            if error is None:
                self._join()
            else:
                self._refuse()

    def _join(self) -> None:
        lease = self._lease
        assert lease is not None
        server = lease.server
        if server.end.closed or server.conversation.lost:
            self.fail(lost_server(server.conversation.lost))
            return
        news = retold(self._told, server.parameters)
        if news:
            self.end.write(news)
        self.state = State.JOINED
        flow = lease.flow
        join(self.end, server.end, self, flow, (flow.client, flow.server))
        answer = server.conversation.take_early()
        if answer:
            server.end.carry(answer)
        # The answer may have had the session wait again.
        if self.state is State.JOINED and (self._rest or flow.alert):
            rest, self._rest = self._rest, b""
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
            if error is not None:
                self._ending = Fatal(error.sqlstate, str(error))
            elif flow.settled and self._ending is None:
                self._close("the client said goodbye", b"")
                return
            self._leave(str(error or "the client said goodbye"), self._listener.times.goodbye)
        elif self._departure is not None:
            self._departure.settled()
        elif flow.watch:
            self._look_at_rest()

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
        if self._departure is not None and self._departure.handed_over:
            self.go(self._departure.reason)
        elif self._lines is not None and self._lines.last_words:
            self.close(f"the server ended it: {self._lines.last_words}")
        else:
            self.fail(lost_server(reason))

    # Leaving in order

    def _leave(self, reason: str, patience: float) -> None:
        """The client sends no more: see L{Departure}."""
        assert self._lease is not None
        self.state = State.LEAVING
        if self._lease.flow.settled:
            self.go(reason)
            return
        listener = self._listener
        probe_every = listener.times.probe_every
        self._departure = Departure(self, self._lease, reason, listener.clock, probe_every)
        self._departure.begin(patience)

    def go(self, reason: str) -> None:
        """All is answered: end the session, with what the client is still to be told."""
        if self._ending is not None:
            self.fail(self._ending)
        else:
            self.close(reason)

    def _look_at_rest(self) -> None:
        """Between two transactions: end a session that is to end, put back what was reset."""
        lease = self._lease
        if lease is None:
            return
        if not lease.flow.at_rest:
            lease.flow.look_again()
        elif self._ending is not None:
            self.fail(self._ending)
        elif lease.was_reset:
            self.end.part(self)
            self.state = State.WAITING
            self._rest += self.end.take_held()
            # The client has seen what the reset has changed: it is told what changes now.
            self._told = dict(lease.server.parameters)
            self.set_again(self._served, self.end.write)
        else:
            lease.flow.watch = False

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
                self._look_at_rest()

    def kill(self, reason: str) -> None:
        """End the session now, whatever it is doing."""
        self.fail(shutdown(reason))

    def revoke(self, reason: str) -> None:
        """
        End the session within a second: what let the client in is good no more.

        The message under way is finished where that is possible in this time,
        so that the client can read why; a client that does not read is cut off.
        """
        if not can_be_told(self._lease):
            self.kill(reason)
        elif self.state is not State.CLOSED:
            self._close(reason, shutdown(reason).encode(), slowly=True)

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

    def _refuse(self) -> None:
        """The request was cancelled before a server had it: skip it, and wait for the next."""
        early, self._rest = self._rest, b""
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
        self.end.write(_READY)
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

    def _close(self, reason: str, last_words: bytes | None, *, slowly: bool = False) -> None:
        """@param slowly: see L{Farewell}"""
        self.state = State.CLOSED
        if self._departure is not None:
            self._departure.stop()
        if self._acquiring is not None:
            self._stop_waiting()
        if self._cancels:
            for done in self._cancels:
                done.callback(None)
            self._cancels = ()
        lease, self._lease = self._lease, None
        end = self.end
        part(end, self, lease)
        if slowly:
            middle, lease = (lease, None) if within_message(lease) else (None, lease)
            listener, words = self._listener, last_words or b""
            listener.see_off(Farewell(end, middle, words, self._give_back, listener.seen_off))
        elif last_words is None:
            end.abort()
        elif last_words or end.pending:
            end.close(last_words)
        else:
            end.drop()
        self._listener.ended(self, reason, lease)
        if lease is not None:
            self._give_back(lease)
