"""
A connection to a server, up to where a login can begin: socket, then TLS.

What was said before TLS was there is believed of nobody: not an error text
(CVE-2024-10977), not a byte that came early (CVE-2021-23222).
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError

from proxyd.config.model import Dsn
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IDialer
from proxyd.net.held import reach
from proxyd.net.link import Link
from proxyd.net.tls import (
    POSTGRESQL,
    client_context,
    handshake_failure,
    tls_server_end_point,
    verify_server,
)
from proxyd.postgres.conversation import Conversation, Lost
from proxyd.postgres.manner import Manner
from proxyd.target import Principal, Target
from proxyd.wire.pg.messages import ssl_request


class Opening:
    """
    Opens connections to the servers of one DSN.

    @ivar manner: how one logs in to them
    """

    def __init__(self, dsn: Dsn, manner: Manner, dialer: IDialer, link: Link, reactor: Any) -> None:
        """@raise StartError: a certificate that the DSN names can't be used"""
        self.manner = manner
        self._sslmode = dsn.sslmode
        self._dialer = dialer
        self._link = link
        self._reactor = reactor
        self._context: SSL.Context | None = None
        if dsn.sslmode != "disable" and not all(host.is_unix for host in dsn.hosts):
            said = dsn.parameters
            self._context = client_context(
                dsn.sslmode,
                root=said.get("sslrootcert"),
                certificate=said.get("sslcert"),
                key=said.get("sslkey"),
                revoked=said.get("sslcrl"),
                least=said.get("ssl_min_protocol_version"),
                most=said.get("ssl_max_protocol_version"),
            )

    async def open(
        self, target: Target, host: Target, way: str, principal: Principal
    ) -> tuple[Conversation, Target]:
        """
        A connection on which a login can begin.

        @param target: where to
        @param host: the DSN's host that this is: its certificate must be for it
        @param way: C{plain} or C{tls}; with a C{?} the server may decline
        @return: the connection, and the address that answered
        @raise DialError: there is none to be had this way
        """
        endpoint = self._dialer.endpoint_for(target, principal)
        conversation = Conversation()
        reached = await reach(self._link, self._reactor, endpoint, conversation)
        end = conversation.end = reached.end
        address = target if reached.peer is None else Target(*reached.peer)
        try:
            if end.closed:
                raise Lost(conversation.lost or "lost at once")
            self.manner.settle(reached.socket, host)
            if way not in ("plain", "plain?"):
                await self._secure(conversation, host, way)
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

    async def _secure(self, conversation: Conversation, host: Target, way: str) -> None:
        """Have TLS on the connection, with the right server at its other end."""
        assert self._context is not None
        if not self.manner.direct and not await self._offered(conversation, host):
            if way == "tls":
                raise DialError(DialFailure.TLS, f"server {host} does not support TLS")
            return
        name = host.host if self.manner.names_server else ""
        await conversation.secure(self._context, name)
        secure = conversation.end.secure
        assert secure is not None
        if self.manner.direct and secure.connection.get_alpn_proto_negotiated() != POSTGRESQL:
            # Else it may be any service at all that was talked into listening (ALPACA).
            raise DialError(
                DialFailure.TLS,
                f"server {host} did not say by ALPN that it is PostgreSQL:"
                " sslnegotiation=direct needs PostgreSQL 17 or newer",
            )
        verify_server(secure.connection, self._sslmode, host.host)

    async def _offered(self, conversation: Conversation, host: Target) -> bool:
        """Ask for TLS; False: the server has none."""
        conversation.end.write(ssl_request())
        answer = await conversation.chunk()
        if answer == b"N":
            return False
        if answer != b"S":
            # Whatever it is, an error text among it, it did not come by TLS: not to be believed.
            raise DialError(
                DialFailure.TLS, f"server {host} answered the request for TLS with more"
            )
        return True


def channel_binding(conversation: Conversation) -> bytes | None:
    """
    The channel binding of the server's certificate (RFC 5929).

    @return: None without TLS, and where none is defined for such a certificate
    """
    secure = conversation.end.secure
    certificate = None if secure is None else secure.connection.get_peer_certificate()
    if certificate is None:
        return None
    try:
        return tls_server_end_point(certificate.to_cryptography())
    except ValueError:
        return None
