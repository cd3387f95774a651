"""
A client's first bytes: the PROXY header, TLS, and the packet that says what it wants.

TLS is begun on the socket itself, and a client may begin it with its very first
byte, or the first one after the header. So what may come before TLS is looked
at while it still is in the socket, and only what is not TLS is taken out.
"""

from __future__ import annotations

from OpenSSL import SSL

from proxyd.net.tls import POSTGRESQL, verdict_of
from proxyd.postgres.conversation import Conversation, Lost
from proxyd.wire.pg.startup import (
    TLS_HANDSHAKE,
    CancelRequested,
    ClientStartup,
    GssRequested,
    SslRequested,
    StartupRequested,
)
from proxyd.wire.proxy_protocol import ProxiedAddress, ProxyHeader


class NotMeant(Exception):
    """
    The client is closed without a word; TLS has said all there is, or it may not mean PostgreSQL.

    @param reason: for the log
    @param sqlstate: for the log
    """

    def __init__(self, reason: str, sqlstate: str = "08P01") -> None:
        super().__init__(reason)
        self.sqlstate = sqlstate


async def read_proxy_header(conversation: Conversation) -> ProxiedAddress:
    """
    Take the header that a balancer must send, and nothing behind it.

    @raise ProtocolError: this is none
    @raise Lost: the peer went away
    """
    header = ProxyHeader()
    announced = None
    while announced is None:
        seen = await conversation.glance()
        announced = header.receive_data(seen)
        rest = 0 if announced is None else len(header.trailing_data)
        conversation.take(len(seen) - rest)
    return announced


async def read_wish(
    conversation: Conversation, tls: SSL.Context | None
) -> StartupRequested | CancelRequested:
    """
    Take everything up to the packet that says what the client wants; what follows is put back.

    What came already and was taken out of the socket did so where there is no
    TLS to begin.

    @param tls: how TLS is spoken, where it is
    @raise NotMeant: it began TLS without asking, and did not say for what
    @raise PgProtocolError: it broke the protocol, and can be told
    @raise ProtocolError: the same; it can't
    @raise Lost: it went away
    """
    end = conversation.end
    reader = ClientStartup(direct_tls=tls is not None)
    if not conversation.early:
        seen = conversation.shown or await conversation.glance()
        if tls is not None and seen[0] == TLS_HANDSHAKE:
            reader.receive_data(seen[:1])
            await _begin_tls_at_once(conversation, tls)
            reader.answered(True)
        else:
            conversation.put_back(conversation.take(len(seen)))
    while True:
        data = conversation.take_early() or await conversation.chunk()
        for event in reader.receive_data(data):
            if isinstance(event, SslRequested):
                # Not on a UNIX socket, where nobody can listen, and not within TLS.
                offered = tls is not None and end.secure is None
                end.write(b"S" if offered else b"N")
                reader.answered(offered)
                if offered:
                    assert tls is not None
                    await _secure(conversation, tls)
            elif isinstance(event, GssRequested):
                end.write(b"N")
                reader.answered(False)
            elif isinstance(event, StartupRequested | CancelRequested):
                conversation.put_back(reader.trailing_data)
                return event


async def _secure(conversation: Conversation, tls: SSL.Context) -> None:
    """Begin TLS; who comes with a certificate that is no good is told of to the log."""
    try:
        await conversation.secure(tls, None)
    except Lost:
        secure = conversation.end.secure
        verdict = None if secure is None else verdict_of(secure.connection)
        if verdict is None:
            raise
        raise NotMeant(f"its certificate is {verdict}", "28000") from None


async def _begin_tls_at_once(conversation: Conversation, tls: SSL.Context) -> None:
    """
    Begin TLS with a client that did not ask for it.

    It must say by ALPN that it means PostgreSQL: the client of another protocol
    that was led here must not be answered (ALPACA; PostgreSQL 17 does the same).
    """
    await _secure(conversation, tls)
    secure = conversation.end.secure
    # A client without ALPN never meets the context's choice: what came of it is looked at here.
    if secure is None or secure.connection.get_alpn_proto_negotiated() != POSTGRESQL:
        raise NotMeant("TLS from the first byte, but without the ALPN protocol postgresql")
