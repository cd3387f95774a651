"""
Sending on a socket of Twisted's without a turn of the reactor, where nothing waits before it.

Twisted's C{write} keeps the bytes, asks epoll for the socket, and copies and
sends them in the next turn. For bulk that is a good part of the work.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any


def send_at_once(
    sock: socket.socket, transport: Any, pieces: Sequence[bytes | memoryview]
) -> bytes:
    """
    Send what the socket takes now.

    @param sock: the transport's own socket, not blocking, without TLS
    @param transport: a connection of Twisted's that is not being closed
    @return: what is left, to be given to the transport's C{write}
    """
    if transport.dataBuffer or transport._tempDataBuffer:
        return b"".join(pieces)  # what it keeps goes first
    try:
        sent = sock.sendmsg(pieces)
    except OSError:
        return b"".join(pieces)  # full, or lost: the transport knows what to do
    if sent == sum(map(len, pieces)):
        return b""
    return b"".join(pieces)[sent:]
