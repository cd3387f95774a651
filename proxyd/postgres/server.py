"""
One PostgreSQL server as a place to log in to: its hosts, its TLS, its cancel requests.

Used by the pool (as the service user), by the verifier (as the client itself)
and by C{check --live}. What is done with a connection afterwards is not known
here.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool

from proxyd.config.model import Connection
from proxyd.errors import DialError, DialFailure, ProtocolError
from proxyd.interfaces import IDialer
from proxyd.net.deadlines import Deadlines
from proxyd.net.end import End
from proxyd.net.link import Link
from proxyd.net.secure import Secure
from proxyd.net.tls import (
    client_context,
    handshake_failure,
    tls_server_end_point,
    verify_server,
)
from proxyd.postgres.answers import Refused
from proxyd.postgres.conversation import Conversation, Lost
from proxyd.postgres.server_connection import ServerConnection
from proxyd.target import Principal, Target
from proxyd.wire.pg.login import (
    DEFAULT,
    DeriveKey,
    LoginDone,
    LoginRefused,
    ServerLogin,
    Unchallenged,
)
from proxyd.wire.pg.messages import cancel_request, ssl_request

SLOW_KEY = 20_000
"""From this SCRAM iteration count on the key is derived in a thread: about 5 ms of work."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who logs in to a server, and with what; the password shows in no C{repr}."""

    user: str
    password: bytes | None
    challenged: bool = False

    def __repr__(self) -> str:
        return f"<Account {self.user!r}>"


class _Held(Protocol):
    """A connection of Twisted's whose bytes the link carries: only its lifetime is left here."""

    def connectionMade(self) -> None:
        """Read nothing."""
        assert self.transport is not None
        self.transport.pauseProducing()  # type: ignore[attr-defined]


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
        self._dialer = dialer
        self._link = link
        self._reactor = reactor
        self._deadlines: Deadlines[Conversation] = Deadlines(
            reactor, connection.connect_timeout, Conversation.give_up
        )
        dsn = connection.dsn
        self._context: SSL.Context | None = None
        if dsn.sslmode != "disable" and not all(host.is_unix for host in dsn.hosts):
            self._context = client_context(
                dsn.sslmode,
                root=dsn.parameters.get("sslrootcert"),
                certificate=dsn.parameters.get("sslcert"),
                key=dsn.parameters.get("sslkey"),
            )

    async def login(
        self, account: Account, database: str, parameters: Mapping[str, str], principal: Principal
    ) -> ServerConnection:
        """
        A new connection, logged in and idle.

        The DSN's hosts are tried in their order.

        @raise Refused: the server said no
        @raise DialError: no host could be reached in C{connect_timeout}, or it
            answered nonsense
        @raise Unchallenged: the account had to be challenged and was not
        """
        error: DialError | None = None
        for host in self.connection.dsn.hosts:
            for wanted in self._ways(host):
                attempt = Deferred.fromCoroutine(
                    self._attempt(host, wanted, account, database, parameters, principal)
                )
                attempt.addTimeout(self.connection.connect_timeout, self._reactor)
                try:
                    return await attempt
                except TimeoutError:
                    error = DialError(DialFailure.TIMEOUT, f"server {host}")
                    break
                except _TryNext as other_way:
                    error = other_way.error
                except DialError as failed:
                    error = failed
                    break
        assert error is not None
        raise error

    async def cancel(self, server: ServerConnection) -> None:
        """
        Ask a server to give up the statement that C{server} is running.

        Done when the server has taken note (protocol chapter, "Canceling
        Requests in Progress"): over the same TLS, to the very address that
        serves the connection.

        @raise DialError: it could not be asked
        """
        if server.key is None:
            raise DialError(DialFailure.BROKEN, f"server {server.address} gave no cancel key")
        conversation, _ = await self._open(
            server.address, server.host, "tls" if server.secure else "plain", Principal("", "")
        )
        end = conversation.end
        end.write(cancel_request(server.pid, server.key))
        try:
            while True:
                await conversation.chunk()
        except Lost:
            return
        finally:
            end.drop()

    def _ways(self, host: Target) -> tuple[str, ...]:
        """The ways to try on one host, as libpq does for each sslmode."""
        if host.is_unix:
            return ("plain",)
        return {
            "disable": ("plain",),
            "allow": ("plain?", "tls"),
            "prefer": ("tls?", "plain"),
        }.get(self.connection.dsn.sslmode, ("tls",))

    async def _attempt(
        self,
        host: Target,
        way: str,
        account: Account,
        database: str,
        parameters: Mapping[str, str],
        principal: Principal,
    ) -> ServerConnection:
        """One try on one host, in one way; a way with C{?} may be followed by another."""
        try:
            conversation, address = await self._open(host, host, way, principal)
        except DialError as error:
            if way == "tls?" and error.failure is DialFailure.TLS:
                raise _TryNext(error) from error
            raise
        end = conversation.end
        secure = end.secure is not None
        try:
            done = await self._authenticate(conversation, host, account, database, parameters)
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
        return ServerConnection(
            conversation,
            done,
            host,
            address,
            account.user,
            database,
            self._reactor.seconds(),
            self._deadlines,
        )

    async def _open(
        self, target: Target, host: Target, way: str, principal: Principal
    ) -> tuple[Conversation, Target]:
        """A connection to a server up to its TLS; and the address that answered."""
        endpoint = self._dialer.endpoint_for(target, principal)
        protocol: Any = await endpoint.connect(Factory.forProtocol(_Held))
        transport: Any = protocol.transport
        assert transport is not None
        address = _address(transport, target)
        conversation = Conversation()
        end = End(
            self._link,
            transport.getHandle(),
            transport,
            conversation,
            paused=True,
        )
        conversation.end = end
        if way in ("plain", "plain?"):
            return conversation, address
        try:
            if await self._begin_tls(conversation, host):
                verify_server(
                    end.secure.connection,  # type: ignore[union-attr]
                    self.connection.dsn.sslmode,
                    host.host,
                )
            elif way == "tls":
                raise DialError(DialFailure.TLS, f"server {host} does not support TLS")
        except Lost as error:
            end.abort()
            secure = end.secure
            if secure is not None and secure.failure is not None:
                raise handshake_failure(secure.connection, secure.failure, str(host)) from error
            raise DialError(DialFailure.LOST, f"server {host}: {error}") from error
        except (DialError, CancelledError):
            end.abort()
            raise
        return conversation, address

    async def _begin_tls(self, conversation: Conversation, host: Target) -> bool:
        """Ask for TLS, and begin it; False: the server has none."""
        end = conversation.end
        end.write(ssl_request())
        answer = await conversation.chunk()
        if answer == b"N":
            return False
        if answer != b"S":
            # Whatever it is, an error text among it, it did not come by TLS: not to be believed.
            raise DialError(
                DialFailure.TLS, f"server {host} answered the request for TLS with more"
            )
        assert self._context is not None
        await conversation.secure(self._context, host.host)
        return True

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
        binding = None
        if end.secure is not None:
            binding = _binding(end.secure)
        login = ServerLogin(
            user=account.user,
            database=database,
            password=account.password,
            parameters=parameters,
            nonce=secrets.token_urlsafe(18),
            secure=end.secure is not None,
            local=_is_local(host),
            allow=self._allowed(),
            challenge_required=account.challenged,
            binding=binding,
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

    def _allowed(self) -> frozenset[str]:
        """The ways of authentication that this DSN lets a server ask for."""
        wanted = self.connection.dsn.parameters.get("require_auth")
        return DEFAULT if wanted is None else frozenset(wanted.split(","))


def _binding(secure: Secure) -> bytes | None:
    """The channel binding of the server's certificate (RFC 5929); None where it has none."""
    certificate = secure.connection.get_peer_certificate()
    if certificate is None:
        return None
    try:
        return tls_server_end_point(certificate.to_cryptography())
    except ValueError:
        return None


class _TryNext(Exception):
    """This way failed in a manner that the next one may mend."""

    def __init__(self, error: DialError) -> None:
        super().__init__(str(error))
        self.error = error


def _is_local(host: Target) -> bool:
    """Whether what goes there never leaves this machine."""
    return host.is_unix or host.host in ("localhost", "::1") or host.host.startswith("127.")


def _address(transport: ITransport, target: Target) -> Target:
    """The address that really answered: where a cancel request has to go."""
    peer: Any = transport.getPeer()
    if target.is_unix or not hasattr(peer, "host"):
        return target
    return Target(peer.host, peer.port)
