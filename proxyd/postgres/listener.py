"""
The PostgreSQL listener: its sockets, who is logging in, who is in, and how all are sent home.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterable

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel

from proxyd.config.model import Log, Postgres
from proxyd.interfaces import ITokens
from proxyd.net.acceptors import Acceptors
from proxyd.net.deadlines import Deadlines
from proxyd.net.end import End
from proxyd.net.link import Link
from proxyd.net.tasks import begin
from proxyd.postgres.answers import Fatal
from proxyd.postgres.authentication import ways
from proxyd.postgres.backend_login import Verifier
from proxyd.postgres.cancel import CancelKeys
from proxyd.postgres.client_login import ClientLogin, Stage
from proxyd.postgres.client_session import ClientSession
from proxyd.postgres.directory import Directory
from proxyd.postgres.farewell import Farewell
from proxyd.postgres.guesses import RATE, Guesses, place_of
from proxyd.postgres.lease import Lease
from proxyd.postgres.nodes import Nodes
from proxyd.postgres.pools import Pools
from proxyd.postgres.session_lines import tell_ended

_log = Logger()

SILENT = 1000
"""Sockets whose start-up packet may be awaited at a time; as many may owe their password."""


class PostgresListener(Service):
    """
    Takes PostgreSQL clients in.

    @ivar settings: the C{postgres} section in force
    @ivar tls: how TLS is spoken to clients; None: not at all
    @ivar directory: the databases there are
    @ivar guesses: wrong cancel keys
    @ivar ways: how clients may authenticate, by what C{auth} says
    @ivar times: how long what happens at the end of a session
    @ivar ready: new clients may come in
    @ivar draining: no new clients, and those that are here go when they can
    @ivar next_number: gives the number of a session that begins
    @ivar received: bytes that came from clients whose sessions are over
    @ivar sent: bytes that went to them
    """

    def __init__(
        self,
        reactor: object,
        link: Link,
        settings: Postgres,
        log: Log,
        tls: SSL.Context | None,
        directory: Directory,
        pools: Pools,
        tokens: ITokens | None = None,
        next_number: Callable[[], int] | None = None,
    ) -> None:
        """
        @param tokens: knows which tokens are good, and ends their sessions
        @param next_number: gives a session's number, used once; None: they are counted here
        """
        self._reactor = reactor
        self.link = link
        self.clock = link.clock
        self.settings = settings
        self.tls = tls
        self.directory = directory
        self.pools = pools
        self.tokens = tokens
        self.ways = ways(Verifier(self.clock, settings.password_times), tokens)
        self.keys: CancelKeys[ClientSession] = CancelKeys()
        self.nodes: Nodes | None = None
        self.guesses = Guesses()
        self.ready = False
        self.draining = False
        self.times = settings.session_times
        self.refusals = 0
        self.shed = 0
        self.use_log(log)
        self.next_number = next_number or itertools.count(1).__next__
        self.received = 0
        self.sent = 0
        self._acceptors = Acceptors(reactor, self._accepted, self.link)
        # A dict: it is half the size of a set where thousands are here.
        self._sessions: dict[ClientSession, None] = {}
        # None as long as nothing came.
        self._logins: dict[ClientLogin, Deferred[None] | None] = {}
        self._deadlines: Deadlines[ClientLogin] = Deadlines(
            self.clock, settings.auth_timeout, self._too_late
        )
        self._silent: dict[ClientLogin, None] = {}
        self._asked: dict[ClientLogin, None] = {}
        self._spoken: set[ClientLogin] = set()
        self._farewells: dict[Farewell, None] = {}
        self._finishing: dict[Lease, None] = {}
        self._stopped: Deferred[None] | None = None
        self._empty: list[Deferred[None]] = []

    def use_log(self, log: Log) -> None:
        """Log what this section asks for."""
        self.log_statements = log.statements != "off"
        self.log_debug = log.level == "debug"
        self.log_errors = LogLevel.levelWithName(log.level) <= LogLevel.info

    # What is known of it

    @property
    def sessions(self) -> Iterable[ClientSession]:
        """All sessions of clients that are logged in."""
        return tuple(self._sessions)

    @property
    def session_count(self) -> int:
        """How many clients are logged in."""
        return len(self._sessions)

    @property
    def full(self) -> bool:
        """Whether C{max_clients} are here."""
        return len(self._sessions) + len(self._spoken) > self.settings.max_clients

    @property
    def addresses(self) -> list[object]:
        """Where it listens."""
        return self._acceptors.addresses

    # Service

    def open(self) -> None:
        """
        Open the listening sockets.

        @raise StartError: one can't be opened
        """
        self._acceptors.open(self.settings.listen, "PostgreSQL clients")

    async def reopen(self) -> None:
        """
        Close the listening sockets and open them anew, where they were; sessions stay.

        @raise StartError: one could not be opened again; the others are
        """
        await self._acceptors.reopen()

    def adopt(
        self, settings: Postgres, log: Log, tls: SSL.Context | None, directory: Directory
    ) -> None:
        """
        Use another configuration for the clients that come from now on.

        The listening sockets stay as they are.
        """
        self.settings = settings
        self.tls = tls
        self.directory = directory
        self.use_log(log)

    def startService(self) -> None:
        """Let clients in."""
        super().startService()  # type: ignore[no-untyped-call]
        self.ready = True

    def drain(self) -> Deferred[None]:
        """
        Send everybody home as soon as they are between two transactions.

        New clients are told 57P03. Fires when nobody is left.
        """
        self.draining = True
        for session in list(self._sessions):
            session.drain()
        done: Deferred[None] = Deferred()
        self._empty.append(done)
        self._look_empty()
        return done

    async def _stop(self) -> None:
        await self._acceptors.stop()
        self.abort("proxyd stops")
        # What their servers still do is cancelled, before the pools close under them.
        await self._leases_over()
        self._deadlines.stop()

    async def _leases_over(self) -> None:
        """Wait until all leases are ended, for a moment at most."""
        if self._finishing:
            stopped = self._stopped = Deferred()
            stopped.addTimeout(self.times.stop, self.clock, lambda *_: None)
            await stopped
            self._stopped = None
        for lease in list(self._finishing):
            lease.give_up()

    def stopService(self) -> Deferred[None]:
        """Close the listening sockets, and all sessions that are still there."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    def abort(self, reason: str) -> None:
        """End everything now."""
        for login in list(self._logins):
            self._break_off(login)
        for session in list(self._sessions):
            session.kill(reason)
        for farewell in list(self._farewells):
            farewell.stop()

    # Clients that are logging in

    def _accepted(self, sock: socket.socket, address: object) -> None:
        """A client is here."""
        login = ClientLogin(self, address)
        end = login.conversation.end = End(self.link, sock, None, login.conversation, paused=True)
        self._logins[login] = None
        # Most speak at once, and are in by the end of this; who does not is waited for.
        self.link.serve(end, login.listen)
        if login in self._logins:
            if login.stage is Stage.SILENT:
                self._wait_for(login, self._silent)
            if login.stage is not Stage.VERIFIED:
                self._deadlines.add(login)

    def arrived(self, login: ClientLogin) -> None:
        """A client's first bytes are here, or it left without any."""
        task = begin(login.run(), _log, "a login")
        if task is None:
            self._login_over(login)
        else:
            self._logins[login] = task
            task.addBoth(lambda _: self._login_over(login))

    def _wait_for(self, login: ClientLogin, queue: dict[ClientLogin, None]) -> None:
        """A client is waited for; the one that was waited for longest may have to go for it."""
        queue[login] = None
        if len(queue) > SILENT:
            self.shed += 1
            self._send_away(next(iter(queue)), "too many silent connections")

    def asked(self, login: ClientLogin) -> None:
        """A client has been asked for its password: until it comes, it is waited for again."""
        self._spoken.discard(login)
        self._wait_for(login, self._asked)

    def spoken(self, login: ClientLogin) -> None:
        """A client has sent what was waited for: its start-up packet, or its password."""
        login.stage = Stage.SPOKEN
        self._silent.pop(login, None)
        self._asked.pop(login, None)
        self._spoken.add(login)

    def verified(self, login: ClientLogin) -> None:
        """A client's password was verified: C{auth_timeout} is over, and a session begins."""
        login.stage = Stage.VERIFIED
        self._spoken.discard(login)
        self._deadlines.discard(login)

    def refused(self, login: ClientLogin, user: str, fatal: Fatal) -> None:
        """A login failed."""
        self.refusals += 1
        _log.warn(
            "[{source}] [{user}] login refused: {sqlstate} {reason}",
            source=login.source,
            user=user,
            sqlstate=fatal.sqlstate,
            reason=fatal.reason,
        )

    async def cancel(self, login: ClientLogin, pid: int, key: bytes) -> None:
        """
        Serve a cancel request; done when the server has taken note.

        A wrong key does nothing; where many come from, they wait.
        """
        place = place_of(login.address)
        wait = self.guesses.wait(place, self.clock.seconds())
        if wait is None:
            return
        if wait:
            await deferLater(self.clock, wait, lambda: None)
        session = self.keys.find(pid, key)
        nodes = self.nodes if self.keys.elsewhere(pid) else None
        if session is not None:
            await session.cancel()
        elif self.guesses.note(place, self.clock.seconds(), known=nodes is None):
            _log.warn(
                "[{host}] sends one wrong cancel key after the other: {rate:g} a second are read",
                host=login.host,
                rate=RATE,
            )
        if nodes is not None:
            await nodes.cancel(pid, key)

    def _forget(self, login: ClientLogin) -> None:
        """A client is waited for no longer."""
        self._silent.pop(login, None)
        self._asked.pop(login, None)

    def _too_late(self, login: ClientLogin) -> None:
        self._send_away(login, "it did not log in in time")

    def _send_away(self, login: ClientLogin, reason: str) -> None:
        self._forget(login)
        _log.debug("[{source}] closed: {reason}", source=login.source, reason=reason)
        self._break_off(login)

    def _break_off(self, login: ClientLogin) -> None:
        """End a login, however far it has come."""
        task = self._logins.get(login)
        if task is not None:
            task.cancel()
        elif login in self._logins:
            login.conversation.ignore()
            login.end.drop()
            self._login_over(login)

    def _login_over(self, login: ClientLogin) -> None:
        self._logins.pop(login, None)
        if login.stage is not Stage.VERIFIED:
            self._forget(login)
            self._spoken.discard(login)
            self._deadlines.discard(login)
        if self.draining:
            self._look_empty()

    # Clients that are in

    def finishing(self, lease: Lease) -> None:
        """A lease is about to end; a stop waits for it."""
        self._finishing[lease] = None

    def finished(self, lease: Lease) -> None:
        """A lease has ended."""
        self._finishing.pop(lease, None)
        if self._stopped is not None and not self._finishing:
            self._stopped.callback(None)

    def begun(self, session: ClientSession) -> None:
        """
        A client logged in.

        @raise TokenRefused: its token was revoked meanwhile
        """
        if session.term is not None and self.tokens is not None:
            self.tokens.attach(session.term.grant, session)
        self._sessions[session] = None
        session.pool.clients += 1
        if self.log_debug:
            _log.debug(
                "[{source}] [{user}] logged in to {database} as session {number}",
                source=session.source,
                user=session.principal.user,
                database=session.database,
                number=session.number,
            )

    def ended(self, session: ClientSession, reason: str, lease: Lease | None) -> None:
        """A session is over: the one line that says so."""
        end, sent = session.end, session.end.sent
        if session.pid:
            self.keys.forget(session.pid)
        if session.term is not None and self.tokens is not None:
            self.tokens.detach(session.term.grant, session)
        if session in self._sessions:
            del self._sessions[session]
            self.received += end.received
            self.sent += sent
            session.pool.clients -= 1
        tell_ended(_log, session, self.clock.seconds(), end.received, sent, reason)
        if self.draining:
            self._look_empty()

    def see_off(self, farewell: Farewell) -> None:
        """A client that was revoked hears its last words."""
        self._farewells[farewell] = None
        farewell.begin(self.clock, self.times.farewell)

    def seen_off(self, farewell: Farewell) -> None:
        """It has, or will not."""
        self._farewells.pop(farewell, None)

    def _look_empty(self) -> None:
        if self.draining and not self._sessions:
            waiting, self._empty = self._empty, []
            for done in waiting:
                done.callback(None)
