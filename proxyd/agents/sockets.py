"""
The sockets below an agent's WebSocket and its users: what is set on them, and a quick way out.

Bulk goes to a socket in the turn that brought it (L{proxyd.net.at_once}); what that does
not take waits in Twisted's transport as ever.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOProtocol

from proxyd.net.at_once import send_at_once

READ = 130_900
"""
Bytes that are read from a socket at a time, and that may wait to be written.

They are two turns of a stream (L{QUANTUM<proxyd.wire.agent.outbox.QUANTUM>}); with a
message's heads they are two segments of loopback's. Twice as many cost more, not
less: they don't stay in the cache from one call to the next.
"""

HEADS = 1024
"""Bytes of all heads of a message that brings L{READ} bytes: it is to come in one piece."""

UNSENT = 64 * 1024
"""
Bytes that wait in the kernel and were not on the line yet (tcp(7), TCP_NOTSENT_LOWAT).

By itself it keeps megabytes for a line that is slow, and a keystroke behind them.
"""


_RECORD = 16 * 1024
"""Bytes in a record of TLS at most (RFC 8446 section 5.1)."""

_SEALED = 64 * 1024
"""Bytes that all records of a message need for themselves at most."""


def connection_below(transport: Any) -> Any:
    """The TCP connection of a transport, that of TLS in memory too; None: there is none."""
    while transport is not None and not isinstance(transport, Connection):
        transport = getattr(transport, "transport", None)
    return transport


def read_much(transport: Any, more: int = 0) -> None:
    """Read and write L{READ} bytes at a time, and some more where they are in messages."""
    connection = connection_below(transport)
    if connection is not None:
        connection.bufferSize = connection.SEND_LIMIT = READ + more


def keep_little_unsent(transport: Any) -> None:
    """
    Have the kernel keep no more than L{UNSENT} for the line; where it can't, no matter.

    And none because it is little (Nagle's algorithm, off by C{TCP_NODELAY}): a
    keystroke would wait until the one before it is acknowledged.
    """
    connection = connection_below(transport)
    if connection is None:
        return
    connection.setTcpNoDelay(True)
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        connection.getHandle().setsockopt(socket.IPPROTO_TCP, option, UNSENT)


class Outlet:
    """
    Where bytes go to a transport, at once if it can be.

    @param transport: a connection of Twisted's, one with TLS, or whatever has a C{write}
    """

    __slots__ = ("_socket", "_tls", "_transport")

    def __init__(self, transport: Any) -> None:
        self._tls: Any = None
        self._transport: Any = transport
        if isinstance(transport, TLSMemoryBIOProtocol):
            self._tls, self._transport = transport, transport.transport
        below: Any = connection_below(transport)
        plain = below is not None and below == self._transport and not below.TLS
        self._socket: Any = below.getHandle() if plain else None

    def write(self, pieces: Sequence[Any]) -> None:
        """Send all of these; while some of it has to wait, the transport's producer pauses."""
        if self._socket is None or self._transport.disconnecting:
            (self._tls or self._transport).write(b"".join(pieces))
        elif self._tls is None:
            self._send(pieces)
        else:
            self._seal(b"".join(pieces))

    def _send(self, pieces: Sequence[Any]) -> None:
        transport = self._transport
        left = send_at_once(self._socket, transport, pieces)
        if left:
            transport.write(left)
            # By itself it would take as much again before it says so.
            if transport.producer is not None and not transport.producerPaused:
                transport.producerPaused = True
                transport.producer.pauseProducing()

    def _seal(self, data: bytes) -> None:
        """The same by TLS: all records of it in one go, which Twisted sends one by one."""
        tls = self._tls
        aggregator = getattr(tls, "_aggregator", None)
        if (
            tls.disconnecting
            or tls._lostTLSConnection
            or not tls._handshakeDone
            or tls._appSendBuffer
            or getattr(aggregator, "_buffer", None)
        ):
            tls.write(data)  # what it keeps goes first
            return
        view, at, size = memoryview(data), 0, len(data)
        try:
            while at < size:
                at += tls._tlsConnection.send(view[at : at + _RECORD])
        except SSL.Error:
            pass  # it meets the same, and knows what to do
        try:
            self._send((tls._tlsConnection.bio_read(size + _SEALED),))
        except SSL.WantReadError:
            pass
        if at < size:
            tls.write(bytes(view[at:]))


class Wire(Protocol):
    """A WebSocket, as a session has it below itself."""

    def send(self, message: str) -> None:
        """Send a text message."""

    def send_pieces(self, pieces: Sequence[bytes | memoryview], size: int) -> None:
        """Send a binary message, which is in pieces, of so many bytes together."""

    def ping(self) -> None:
        """Ask by the WebSocket's own means whether the peer is there."""

    def close(self, reason: str) -> None:
        """Close in order."""

    def abort(self) -> None:
        """Close at once."""
