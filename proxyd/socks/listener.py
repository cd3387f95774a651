"""
The SOCKS5 listener: its sockets, who is in, and how all are sent home.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterable
from typing import Any

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger, LogLevel

from proxyd.config.ways import Socks5
from proxyd.interfaces import IRouter
from proxyd.net.acceptors import Acceptors
from proxyd.net.deadlines import Deadlines
from proxyd.net.end import End
from proxyd.net.failures import Failures
from proxyd.net.link import Link
from proxyd.net.tasks import spawn
from proxyd.socks.accounts import Accounts
from proxyd.socks.allowances import Allowances
from proxyd.socks.bind import Bind
from proxyd.socks.client import SocksClient, Work
from proxyd.socks.pac import pac_text
from proxyd.socks.replies import Refused
from proxyd.socks.udp import UdpAssociation
from proxyd.target import Target
from proxyd.wire.socks.words import Asked, Command, Login, Refusal

_log = Logger()

SILENT = 1000
"""Clients that may be awaited at a time, before they have said where they want to go."""


class SocksListener(Service):
    """
    Takes SOCKS clients in.

    @ivar settings: the C{socks5} section in force
    @ivar accounts: who may log in
    @ivar router: knows which way a target goes
    @ivar dials: the clients whose target is being dialled, each with its deadline
    @ivar allowances: how much each user and each route has
    @ivar failures: who has given wrong passwords
    @ivar opened: clients that asked for something, since the start
    @ivar failed: those of them that did not get it
    @ivar turned_away: clients that did not get so far
    @ivar up: bytes to targets, in sessions that have ended
    @ivar down: bytes from targets, in sessions that have ended
    """

    def __init__(
        self,
        reactor: Any,
        link: Link,
        settings: Socks5,
        accounts: Accounts,
        tls: SSL.Context | None,
        router: IRouter,
        next_number: Callable[[], int] | None = None,
    ) -> None:
        """
        @param tls: how TLS is spoken to clients; None: not at all
        @param next_number: gives the numbers of sessions
        """
        self.reactor = reactor
        self.link = link
        self.clock = link.clock
        self.settings = settings
        self.accounts = accounts
        self.router = router
        self.allowances = Allowances(self.clock)
        self.failures = Failures(self.clock, settings.password_times)
        self.opened = self.failed = self.turned_away = self.up = self.down = 0
        self._tls = tls
        self._next_number = next_number or itertools.count(1).__next__
        self._acceptors = Acceptors(reactor, self._accepted, link)
        self._deadlines: Deadlines[SocksClient] = Deadlines(
            self.clock, settings.auth_timeout, lambda client: client.leave("too late")
        )
        self.dials: Deadlines[SocksClient] = Deadlines(
            self.clock, settings.connect_timeout, SocksClient.give_up
        )
        self._clients: dict[SocksClient, None] = {}
        self._empty: list[Deferred[None]] = []
        self._closing: Deferred[None] = succeed(None)

    # What is known of it

    @property
    def login_needed(self) -> bool:
        """Whether a client must log in."""
        return bool(self.accounts)

    @property
    def sessions(self) -> Iterable[SocksClient]:
        """All clients that have said where they want to go."""
        return tuple(self._clients)

    @property
    def waiting(self) -> int:
        """How many clients have not said yet where they want to go."""
        return len(self._deadlines)

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
        self._acceptors.open(self.settings.listen, "SOCKS5 clients")

    async def reopen(self) -> None:
        """
        Open the listening sockets anew; who has come in stays.

        @raise StartError: one could not be opened again
        """
        await self._acceptors.reopen()

    def adopt(self, settings: Socks5, accounts: Accounts, tls: SSL.Context | None) -> None:
        """Use other settings for the clients that come from now on; the sockets stay."""
        self.settings = settings
        self.accounts = accounts
        self._tls = tls

    def drain(self) -> Deferred[None]:
        """Let nobody in any more; fires when nobody is left."""
        for client in list(self._deadlines):
            client.kill("proxyd stops")
        done: Deferred[None] = Deferred()
        self._empty.append(done)
        self._closing = spawn(self._acceptors.stop(), _log, "closing the SOCKS5 listener")
        self._look_empty()
        return done

    async def _stop(self) -> None:
        await self._closing
        await self._acceptors.stop()
        for client in [*self._deadlines, *self._clients]:
            client.kill("proxyd stops")
        self._deadlines.stop()
        self.dials.stop()

    def stopService(self) -> Deferred[None]:
        """Close the listening sockets, and all sessions that are still there."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    # Clients

    def _accepted(self, sock: socket.socket, address: Any) -> None:
        """A client is here."""
        if len(self._clients) >= self.settings.max_clients:
            self.turned_away += 1
            sock.close()
            return
        client = SocksClient(self, _source(address))
        client.end = end = End(self.link, sock, None, client, paused=self._tls is not None)
        self._deadlines.add(client)
        if len(self._deadlines) > SILENT:
            oldest = self._deadlines.oldest
            if oldest is not None:
                oldest.leave("too many silent connections")
        if self._tls is not None:
            end.tls(self._tls, None, end.resume)

    def pause(self, login: Login, source: str) -> Deferred[None] | None:
        """The time that a login must wait for its verdict; None: none, as with most."""
        return self.failures.pause(_who(login, source)) if self.accounts else None

    def verify(self, login: Login, source: str) -> str | None:
        """The name of whoever logged in; None: nobody."""
        if not self.accounts:
            return ""  # no login is needed: it may be anybody
        user = self.accounts.verify(login.user, login.password)
        if user is not None:
            self.failures.succeeded(_who(login, source))
        else:
            self.failures.failed(_who(login, source))
            _log.warn("[{source}] SOCKS5 login refused: wrong user or password", source=source)
        return user

    def pac(self, end: End) -> str | None:
        """The PAC file for whoever came by this End; None: it is not served."""
        if not self.settings.pac:
            return None
        return pac_text(self.router.pac_rules(), str(Target(*end.local_address)))

    def work_for(self, client: SocksClient, asked: Asked) -> Work:
        """
        What serves a request other than CONNECT.

        @raise Refused: nothing does
        """
        if asked.command is Command.UDP:
            return UdpAssociation(self, client, asked)
        if self.settings.bind:
            return Bind(self, client, asked)
        raise Refused(Refusal.COMMAND, "BIND is not served: socks5.bind is not true")

    def begun(self, client: SocksClient) -> None:
        """A client has said where it wants to go."""
        self._deadlines.discard(client)
        self._clients[client] = None
        self.opened += 1
        client.number = self._next_number()
        client.began = self.clock.seconds()

    def refused(self, client: SocksClient, why: str) -> None:
        """A client was sent away before it had asked for anything."""
        self._deadlines.discard(client)
        self.turned_away += 1
        _log.debug("[{source}] sent away: {why}", source=client.source, why=why)

    def ended(self, client: SocksClient, why: str, up: int, down: int, *, refused: bool) -> None:
        """A session is over: the one line that says so."""
        self._deadlines.discard(client)
        if self._clients.pop(client, 0) == 0:
            self.turned_away += 1
            _log.debug("[{source}] gone: {why}", source=client.source, why=why)
            return
        self.failed += refused
        self.up += up
        self.down += down
        passage = client.passage
        _log.emit(
            LogLevel.info,
            # No parenthesis in it: Twisted's own way to format is much dearer.
            "[{source}] [{user}] session {number} {command} {target} by {way}{instance}, {route},"
            " {verb} after {seconds:.1f} s: {up} bytes up, {down} bytes down, {why}",
            source=client.source,
            user=client.principal.user,
            number=client.number,
            command=client.asked.command.name if client.asked else "",
            target=client.place,
            way="no way" if passage is None else passage.way,
            instance=f" ({client.instance})" if client.instance else "",
            route=client.route or "no route",
            verb="refused" if refused else "ended",
            seconds=self.clock.seconds() - client.began,
            up=up,
            down=down,
            why=why,
        )
        self._look_empty()

    def _look_empty(self) -> None:
        if self._empty and not self._clients:
            waiting, self._empty = self._empty, []
            for done in waiting:
                done.callback(None)


def _who(login: Login, source: str) -> tuple[str, str]:
    return source, login.user.decode("utf-8", "surrogateescape")


def _source(address: Any) -> str:
    """Where a client comes from, as the kernel said."""
    if isinstance(address, tuple):
        host = str(address[0])
        return host.removeprefix("::ffff:") if "." in host else host
    return "unix"
