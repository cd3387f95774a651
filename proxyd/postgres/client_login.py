"""
A PostgreSQL client's way in: PROXY header, TLS, start-up packet, login.

Reads top to bottom as a client goes through it (protocol chapter, "Start-up").
How it proves who it is: L{proxyd.postgres.authentication}. Until it has,
nothing of the client's reaches a server but its name, its database and its
password.
"""

from __future__ import annotations

from enum import Enum, unique
from functools import lru_cache
from ipaddress import ip_address
from sys import intern
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from proxyd.errors import ProtocolError
from proxyd.net.end import End
from proxyd.postgres.admission import Admission
from proxyd.postgres.answers import (
    Fatal,
    certificate_needed,
    draining,
    no_database,
    starting,
    too_many,
)
from proxyd.postgres.cancel import LONG_KEY, SHORT_KEY
from proxyd.postgres.certificate_login import demand_certificate
from proxyd.postgres.client_session import ClientSession
from proxyd.postgres.client_start import NotMeant, read_proxy_header, read_wish
from proxyd.postgres.conversation import Conversation, Lost
from proxyd.postgres.directory import Address, Place, lets_user_in
from proxyd.postgres.settings import greet, greeting_of, read_settings
from proxyd.postgres.token_login import told as told_of
from proxyd.records import TokenRefused
from proxyd.target import Principal
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import PgProtocolError
from proxyd.wire.pg.framing import MessageReader
from proxyd.wire.pg.startup import NEWEST_MINOR, TLS_HANDSHAKE, NotPostgres, StartupRequested
from proxyd.wire.pg.whole import whole_startup

if TYPE_CHECKING:
    from proxyd.postgres.listener import PostgresListener

_log = Logger()

PASSWORD_LIMIT = 65_535
"""Bytes of the longest password that is taken: tokens are passwords too."""


@lru_cache(maxsize=1024)
def _parsed(host: str) -> tuple[Address, str, bool]:
    """An address as a value and as text (IPv4 inside IPv6 is IPv4), and whether it is loopback."""
    address = ip_address(host.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return address, str(address), address.is_loopback


@lru_cache(maxsize=1024)
def _principal(user: str, host: str) -> Principal:
    """One value for all who come as the same: an idle client is to cost next to nothing."""
    return Principal(intern(user), intern(host))


@unique
class Stage(Enum):
    """How far a client has come."""

    SILENT = "its start-up packet is awaited"
    SPOKEN = "it has sent that"
    VERIFIED = "it is who it says"


class _HungUp(Exception):
    """The client went away when it was asked for a password: psql's first try does so."""


class ClientLogin:
    """
    A client that has not logged in yet.

    @ivar end: its socket
    @ivar address: where it comes from; None: a UNIX socket
    @ivar host: its address without the port
    @ivar source: its address
    @ivar local: whether its bytes never leave this machine
    @ivar stage: how far it has come; the listener keeps it
    """

    __slots__ = (
        "_listener",
        "address",
        "conversation",
        "host",
        "local",
        "source",
        "stage",
    )

    def __init__(self, listener: PostgresListener, address: object) -> None:
        """
        @param address: what C{accept} said of the peer: a tuple that begins with
            host and port, or anything else for a UNIX socket
        """
        self._listener = listener
        self.address: Address | None = None
        self.source = self.host = "unix"
        self.local = True
        if isinstance(address, tuple):
            self._set_address(address[0], address[1])
        self.conversation = Conversation()
        self.stage = Stage.SILENT

    @property
    def end(self) -> End:
        """The client's socket."""
        return self.conversation.end

    @property
    def private(self) -> bool:
        """Whether a secret may be asked for."""
        tls = self._listener.settings.tls
        return self.local or self.end.secure is not None or tls.mode == "disable"

    def _set_address(self, host: str, port: int) -> None:
        self.address, self.host, self.local = _parsed(host)
        self.source = f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

    def listen(self) -> None:
        """Look at the client's first bytes, which may be TLS; most clients speak at once."""
        seen = self.conversation.end.peek()
        if seen:
            self.heard(seen)
        else:
            self.conversation.look(self)

    def heard(self, data: bytes) -> None:
        """The client's first bytes are here, in the socket still."""
        conversation = self.conversation
        if data[0] == TLS_HANDSHAKE or self._listener.settings.proxy_protocol:
            conversation.shown = data
        else:
            conversation.early = conversation.end.take(len(data))
        self._listener.arrived(self)

    def unheard(self, reason: str) -> None:
        """The client left without a word."""
        self._listener.arrived(self)

    async def run(self) -> None:
        """Take the client in, or send it away; never fails but by a bug."""
        user = ""
        try:
            conversation = self.conversation
            startup = whole_startup(conversation.early)
            if startup is not None:
                # It came first, and nothing behind it.
                conversation.early = b""
            else:
                await self._announced()
                startup = await self._start()
            if startup is None:
                self.end.drop()
                return
            user = startup.parameters["user"]
            await self._log_in(startup)
        except Fatal as fatal:
            self._refuse(user, fatal)
        except NotMeant as error:
            self._listener.refused(self, user, Fatal(error.sqlstate, str(error)))
            self.end.close()
        except NotPostgres as error:
            _log.debug("[{source}] closed: {reason}", source=self.source, reason=str(error))
            self.end.drop()
        except PgProtocolError as error:
            self._refuse(user, Fatal(error.sqlstate, str(error)))
        except ProtocolError as error:
            _log.debug("[{source}] closed: {reason}", source=self.source, reason=str(error))
            self.end.drop()
        except Lost as error:
            _log.debug("[{source}] left: {reason}", source=self.source, reason=str(error))
            self.end.drop()
        except _HungUp:
            _log.debug(
                "[{source}] [{user}] left when asked for a password", source=self.source, user=user
            )
            self.end.drop()
        except CancelledError:
            self.end.drop()
        except Exception:
            _log.failure("[{source}] a login failed; it is closed", source=self.source)
            self.end.abort()

    def _refuse(self, user: str, fatal: Fatal) -> None:
        """Send the client away, and tell it why."""
        self._listener.refused(self, user, fatal)
        self.end.close(fatal.encode())

    # Before the start-up packet

    async def _announced(self) -> None:
        """Take the PROXY header of a balancer that is believed."""
        networks = self._listener.settings.proxy_protocol
        address = self.address
        if not networks or address is None or not any(address in each for each in networks):
            return
        announced = await read_proxy_header(self.conversation)
        if announced.source is not None:
            self._set_address(*announced.source)

    async def _start(self) -> StartupRequested | None:
        """Everything up to the start-up packet; None: it was a cancel request, and is done."""
        tls = None if self.address is None else self._listener.tls
        wish = await read_wish(self.conversation, tls)
        if isinstance(wish, StartupRequested):
            return wish
        await self._listener.cancel(self, wish.pid, wish.key)
        return None

    # The login

    async def _log_in(self, startup: StartupRequested) -> None:
        """Check who it is, and make a session of it."""
        listener = self._listener
        listener.spoken(self)
        if listener.draining:
            raise draining()
        if not listener.ready:
            raise starting()
        if listener.full:
            raise too_many()
        minor = min(startup.version[1], NEWEST_MINOR)
        if startup.version[1] > minor or startup.unknown_options:
            self.end.write(messages.negotiate_protocol_version(minor, startup.unknown_options))
        self._demand_tls()
        settings = read_settings(startup.parameters)
        name = intern(startup.parameters["database"])
        principal = _principal(startup.parameters["user"], self.host)
        place, admission = await self._authenticate(name, principal)
        principal = admission.principal
        listener.verified(self)
        pool = listener.pools.get(place.server, place.database)
        settings = settings.stamped(principal.user)
        if pool.settings.identity == "set_role":
            settings = settings.with_role(principal.user)
        session = ClientSession(
            listener,
            self.conversation.end,
            listener.next_number(),
            principal,
            self.source,
            name,
            pool,
            settings,
            admission.term,
        )
        await self._admit(session, LONG_KEY if minor >= NEWEST_MINOR else SHORT_KEY)

    async def _admit(self, session: ClientSession, key_length: int) -> None:
        """Make the session and its client known; a server is leased if only it can tell."""
        conversation = self.conversation
        try:
            self._listener.begun(session)
        except TokenRefused as refused:
            raise told_of(refused, session.principal) from None
        try:
            greeting = greeting_of(session.pool, session.settings)
            if greeting is None:
                # While a server is waited for, a client that goes away must not keep its place.
                conversation.stirred = lambda: self._stirred(session)
                if not conversation.early:
                    self.end.resume()
                try:
                    greeting = greet(await session.leased())
                finally:
                    conversation.stirred = None
            if conversation.lost:
                raise Lost(conversation.lost)
        except Fatal as fatal:
            session.fail(fatal)
            return
        except (Lost, CancelledError, ProtocolError) as error:
            session.close(str(error) or "it was ended")
            return
        early = conversation.take_early()
        session.greet(greeting, key_length)
        if early:
            session.early(early)

    def _stirred(self, session: ClientSession) -> None:
        """The client did something while it waits to be let in."""
        if self.conversation.lost:
            session.close(f"the client {self.conversation.lost}")

    def _demand_tls(self) -> None:
        """Refuse a client that comes without the TLS it must have."""
        mode = self._listener.settings.tls.mode
        if self.address is None or mode in ("disable", "prefer"):
            return
        if self.end.secure is None:
            raise Fatal(
                "28000",
                "this server takes connections inside TLS only",
                hint="Connect with sslmode=require, or stronger.",
            )
        if mode == "verify-full" and self.end.secure.connection.get_peer_certificate() is None:
            raise certificate_needed()

    async def _authenticate(self, name: str, principal: Principal) -> tuple[Place, Admission]:
        """
        Find out whether the client is who it says, and may go where it wants.

        What there is behind the name is told after a good login only.
        """
        listener = self._listener
        directory = listener.directory
        place = directory.find(name)
        if not directory.lets_in(place, self.address):
            raise Fatal(
                "28000",
                f'connections from {self.host} to database "{name}" are not allowed',
                hint="The connection's `allow` must name this address.",
            )
        way = listener.ways[directory.auth_for(place, name)]
        try:
            admission = await way.admit(self, place, principal)
        except Fatal as fatal:
            if place is None and fatal.good_for == name:
                raise no_database(name) from None
            if place is None:
                fatal.reason += f' (no connection serves database "{name}")'
            raise
        assert place is not None, "a way let a client into nowhere"
        if not place.served:
            raise no_database(name)
        user = admission.principal.user
        connection = place.connection
        if not lets_user_in(connection, user):
            raise Fatal(
                "28000",
                f'user "{user}" is not allowed to use database "{name}"',
                hint="The connection's `users` must name this user.",
            )
        if connection.cert_map and connection.auth != ("cert",):
            demand_certificate(self, place, admission.principal)
        if listener.directory is not directory:
            place = self._still(place, name)
        return place, admission

    def _still(self, place: Place, name: str) -> Place:
        """
        A place as it is now: while the client logged in the connections were read again.

        @raise Fatal: it is gone, or what the client was let in by has changed
        """
        now = self._listener.directory.find(name)
        if now is None or not now.served:
            raise no_database(name)
        if now.connection != place.connection:
            raise Fatal(
                "57P03", f'the settings of database "{name}" have just changed', hint="Try again."
            )
        return now

    async def ask(self, request: bytes, answer: str = "password response") -> bytes:
        """See L{Stranger<proxyd.postgres.admission.Stranger>}."""
        self.end.write(request)
        self._listener.asked(self)
        reader = MessageReader(PASSWORD_LIMIT + 1)  # and its NUL
        reader.feed(self.conversation.take_early())
        while (message := reader.next_message()) is None:
            try:
                reader.feed(await self.conversation.chunk())
            except Lost:
                raise _HungUp from None
        self._listener.spoken(self)
        if self._listener.full:
            raise too_many()
        kind, body = message
        self.conversation.put_back(reader.trailing_data)
        if kind == messages.TERMINATE_TYPE:
            raise _HungUp
        if kind != messages.PASSWORD:
            raise PgProtocolError(f"expected {answer}, got message type {kind}")
        return body
