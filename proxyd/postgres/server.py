"""
One PostgreSQL server as a place to log in to: its hosts, its TLS, its cancel requests.

Used by the pool (as the service user), by the verifier (as the client itself)
and by C{check --live}. What is done with a connection afterwards is not known
here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError
from twisted.internet.threads import deferToThreadPool

from proxyd.config.model import Connection
from proxyd.errors import DialError, DialFailure, ProtocolError
from proxyd.interfaces import IDialer, ITokenSource
from proxyd.net.deadlines import Deadlines
from proxyd.net.link import Link
from proxyd.postgres.answers import NOT_NOW, Refused
from proxyd.postgres.conversation import Conversation, Lost
from proxyd.postgres.hosts import Hosts, judged, question, unsuited
from proxyd.postgres.manner import manner_of
from proxyd.postgres.opening import Opening, channel_binding
from proxyd.postgres.server_connection import Failed, ServerConnection
from proxyd.target import Principal, Target
from proxyd.wire.pg import messages
from proxyd.wire.pg.login import (
    DeriveKey,
    LoginDone,
    LoginRefused,
    ServerLogin,
    Unchallenged,
)

CANCELS = 16
"""Cancel requests that are under way to a server at the same time; more wait their turn."""

SLOW_KEY = 20_000
"""From this SCRAM iteration count on the key is derived in a thread: about 5 ms of work."""

_NOT_ACCEPTED = ("28P01", "28000")
"""What a server says to a password that it does not take; PAM's is the second."""


@dataclass(frozen=True, slots=True)
class Account:
    """
    Who logs in to a server, and with what; the password shows in no C{repr}.

    @param challenged: the login is to check the password
    @param source: gives a password for each login, in place of C{password}
    """

    user: str
    password: bytes | None
    challenged: bool = False
    source: ITokenSource | None = None

    def __repr__(self) -> str:
        return f"<Account {self.user!r}>"


class Server:
    """
    The server (or servers) behind one connection of the configuration.

    @ivar connection: that connection's settings
    """

    def __init__(self, connection: Connection, dialer: IDialer, link: Link, reactor: Any) -> None:
        """
        @param reactor: tells the time, and has threads for long work
        @raise StartError: a certificate that the DSN names can't be used
        """
        self.connection = connection
        self._reactor = reactor
        self._cancels = DeferredSemaphore(CANCELS)
        self._deadlines: Deadlines[Conversation] = Deadlines(
            reactor, connection.connect_timeout, Conversation.give_up
        )
        manner = self._manner = manner_of(connection.dsn)
        self._opening = Opening(connection.dsn, manner, dialer, link, reactor)
        self._hosts = Hosts(
            connection.dsn.hosts,
            manner.attributes,
            reactor,
            connection.server_times.host_avoided,
            secrets.SystemRandom().shuffle if manner.balance else None,
        )

    async def login(
        self, account: Account, database: str, parameters: Mapping[str, str], principal: Principal
    ) -> ServerConnection:
        """
        A new connection, logged in and idle.

        The DSN's hosts are tried in their order, those that failed lately
        last; a host's name is looked up anew each time. One that is starting
        up or shutting down is passed over for the next. Where the password
        comes from a source that has another one after a refusal, that one is
        tried, once.

        @raise Refused: the server said no
        @raise DialError: no host could be reached in C{connect_timeout}, none
            is what C{target_session_attrs} asks for, or it answered nonsense
        @raise Unchallenged: the account had to be challenged and was not
        """
        if not account.challenged:
            parameters = {**self._manner.startup, **parameters}
        try:
            return await self._somewhere(account, database, parameters, principal)
        except Refused as refused:
            source = account.source
            wrong = refused.error.sqlstate in _NOT_ACCEPTED and not refused.authenticated
            if source is None or not wrong or not await source.refused():
                raise
        return await self._somewhere(account, database, parameters, principal)

    async def _somewhere(
        self, account: Account, database: str, parameters: Mapping[str, str], principal: Principal
    ) -> ServerConnection:
        """Log in at the first host that takes us."""
        failed: DialError | Refused | None = None
        for wanted in self._hosts.wanted:
            for host in self._hosts.order():
                try:
                    server = await self._at(host, wanted, account, database, parameters, principal)
                except DialError as error:
                    self._hosts.failed(host)
                    if not isinstance(failed, Refused):
                        failed = error
                except Refused as refused:
                    if refused.error.sqlstate not in NOT_NOW or len(self._hosts) == 1:
                        raise
                    self._hosts.failed(host)
                    failed = refused  # it will be there: this says more than another's silence
                else:
                    self._hosts.succeeded(host)
                    return server
        assert failed is not None
        raise failed

    async def _at(
        self,
        host: Target,
        wanted: str,
        account: Account,
        database: str,
        parameters: Mapping[str, str],
        principal: Principal,
    ) -> ServerConnection:
        """Log in at one host, in the first way that works."""
        error: DialError | None = None
        for way in self._manner.ways(host):
            attempt = Deferred.fromCoroutine(
                self._attempt(host, way, wanted, account, database, parameters, principal)
            )
            attempt.addTimeout(self.connection.connect_timeout, self._reactor)
            try:
                return await attempt
            except TimeoutError:
                raise DialError(DialFailure.TIMEOUT, f"server {host}") from None
            except _TryNext as other_way:
                error = other_way.error
        assert error is not None
        raise error

    async def cancel(
        self, server: ServerConnection, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """
        Ask a server to give up the statement that C{server} is running.

        Done when the server has taken note (protocol chapter, "Canceling
        Requests in Progress"): over the same TLS, to the very address that
        serves the connection. No more than L{CANCELS} are under way at a
        time, lest a storm of them becomes a storm of logins there.

        @param wanted: asked when its turn has come: whether it still is
        @raise DialError: it could not be asked
        """
        await self._cancels.acquire()
        try:
            if wanted():
                await self._cancel(server)
        finally:
            self._cancels.release()

    async def _cancel(self, server: ServerConnection) -> None:
        if server.key is None:
            raise DialError(DialFailure.BROKEN, f"server {server.address} gave no cancel key")
        conversation, _ = await self._opening.open(
            server.address, server.host, "tls" if server.secure else "plain", Principal("", "")
        )
        end = conversation.end
        end.write(messages.cancel_request(server.pid, server.key))
        try:
            while True:
                await conversation.chunk()
        except Lost:
            return
        finally:
            end.drop()

    async def _attempt(
        self,
        host: Target,
        way: str,
        wanted: str,
        account: Account,
        database: str,
        parameters: Mapping[str, str],
        principal: Principal,
    ) -> ServerConnection:
        """One try on one host, in one way; a way with C{?} may be followed by another."""
        try:
            conversation, address = await self._opening.open(host.dialled, host, way, principal)
        except DialError as error:
            if way == "tls?" and error.failure is DialFailure.TLS:
                raise _TryNext(error) from error
            raise
        end = conversation.end
        secure = end.secure is not None
        try:
            password, made = await self._secret(conversation, host, account)
            done = await self._authenticate(
                conversation, host, replace(account, password=password), database, parameters
            )
        except Refused as refused:
            end.drop()
            other = (way == "tls?" and secure) or way == "plain?"
            if other and refused.error.sqlstate == "28000" and not refused.authenticated:
                raise _TryNext(
                    DialError(DialFailure.BROKEN, f"server {host}: {refused}")
                ) from refused
            raise
        except ProtocolError as error:
            end.abort()
            if account.challenged and isinstance(error, Unchallenged):
                raise
            raise DialError(DialFailure.BROKEN, f"server {host}: {error}") from error
        except Lost as error:
            end.abort()
            raise DialError(DialFailure.LOST, f"server {host}: {error}") from error
        except CancelledError:
            end.abort()
            raise
        server = ServerConnection(
            conversation,
            done,
            host,
            address,
            account.user,
            database,
            self._reactor.seconds(),
            self._deadlines,
            wanted=wanted,
        )
        server.token_age = server.created - made
        await self._check(server, wanted)
        return server

    async def _secret(
        self, conversation: Conversation, host: Target, account: Account
    ) -> tuple[bytes | None, float]:
        """What to log in with, and when it was made; a token is made when TLS is there."""
        if account.source is not None:
            if account.source.clear_text and conversation.end.secure is None:
                raise DialError(DialFailure.TLS, f"server {host}: a token is sent inside TLS only")
            password = await account.source.token_for(host.host, host.port)
            return password, self._reactor.seconds()
        return account.password, self._reactor.seconds()

    async def _check(self, server: ServerConnection, wanted: str) -> None:
        """
        See whether a server is what C{target_session_attrs} asks for.

        @raise DialError: it is not, or did not say; the connection is closed
        """
        try:
            why = unsuited(wanted, server.parameters)
            if why is None:
                answer = await server.run(messages.query(question(wanted)))
                why = judged(wanted, _only_value(answer))
        except (Lost, Failed, ProtocolError) as error:
            server.abort()
            raise DialError(DialFailure.BROKEN, f"server {server.host}: {error}") from error
        except CancelledError:
            server.abort()
            raise
        if why:
            server.goodbye()
            raise DialError(
                DialFailure.UNREACHABLE,
                f"server {server.host} {why}, and target_session_attrs={self._manner.attributes}",
            )

    async def _authenticate(
        self,
        conversation: Conversation,
        host: Target,
        account: Account,
        database: str,
        parameters: Mapping[str, str],
    ) -> LoginDone:
        """Log in on an open connection."""
        end = conversation.end
        manner = self._manner
        login = ServerLogin(
            user=account.user,
            database=database,
            password=account.password,
            parameters=parameters,
            nonce=secrets.token_urlsafe(18),
            secure=end.secure is not None,
            local=_is_local(host.dialled),
            allow=_allowed(manner.allow, account),
            challenge_required=account.challenged,
            binding=None if manner.binding == "disable" else channel_binding(conversation),
            binding_required=manner.binding == "require",
            minor=manner.minor,
            least_minor=manner.least_minor,
        )
        end.write(login.data_to_send())
        while True:
            for event in login.receive_data(await conversation.chunk()):
                if isinstance(event, LoginDone):
                    return event
                if isinstance(event, LoginRefused):
                    raise Refused(event.error, event.after_authentication)
                if isinstance(event, DeriveKey):
                    password = (account.password or b"").decode("utf-8", "surrogateescape")
                    challenge = event.challenge
                    if challenge.iterations > SLOW_KEY:
                        pool = self._reactor.getThreadPool()
                        salted = await deferToThreadPool(
                            self._reactor, pool, challenge.derive, password
                        )
                    else:
                        salted = challenge.derive(password)
                    login.key_derived(salted)
            end.write(login.data_to_send())


def _allowed(ways: frozenset[str], account: Account) -> frozenset[str]:
    """How a server may ask; a token is sent in clear, inside TLS."""
    if account.source is not None and account.source.clear_text:
        return ways | {"password"}
    return ways


class _TryNext(Exception):
    """This way failed in a manner that the next one may mend."""

    def __init__(self, error: DialError) -> None:
        super().__init__(str(error))
        self.error = error


def _is_local(host: Target) -> bool:
    """Whether what goes there never leaves this machine; a name may lead anywhere."""
    if host.is_unix or host.host == "localhost":
        return True
    try:
        return ip_address(host.host).is_loopback
    except ValueError:
        return False


def _only_value(answer: list[tuple[int, bytes]]) -> str:
    """
    The value of the one row with one column that an answer is.

    @raise ProtocolError: it is none
    """
    rows = [messages.parse_data_row(body) for kind, body in answer if kind == messages.DATA_ROW]
    if len(rows) != 1 or len(rows[0]) != 1 or rows[0][0] is None:
        raise ProtocolError("a server that was asked what it is did not say")
    return rows[0][0].decode("ascii", "replace")
