"""
A program that logs thousands of clients in and lets them sit there.

C{python -m bench.idle_clients PORT DATABASE USER [--tls]} reads numbers from its
standard input, one a line. For each it logs in until so many clients are held,
then writes that number back. At the end of its input it hangs up and ends.
The clients come from loopback and are asked for no password.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

from bench.programs import raise_open_files

PROTOCOL_3_0 = 196608
SSL_REQUEST = struct.pack("!II", 8, 80877103)
SIDE_BY_SIDE = 8
LOGIN_SECONDS = 60.0


class LoginRefused(Exception):
    """The server did not let a client in; the text is what it said instead."""


def log_in(port: int, database: str, user: str, context: ssl.SSLContext | None) -> socket.socket:
    """
    A client that is logged in and has asked nothing yet.

    The start-up is that of the PostgreSQL documentation, "Message Flow:
    Start-up"; it is over at the first ReadyForQuery.

    @param context: how TLS is spoken; None: it is not asked for
    @raise LoginRefused: the server said no, or hung up
    @raise OSError: the connection broke
    """
    client = socket.create_connection(("127.0.0.1", port), LOGIN_SECONDS)
    if context is not None:
        client.sendall(SSL_REQUEST)
        if client.recv(1) != b"S":
            raise LoginRefused("no TLS here")
        client = context.wrap_socket(client)
    settings = f"user\0{user}\0database\0{database}\0\0".encode()
    client.sendall(struct.pack("!II", len(settings) + 8, PROTOCOL_3_0) + settings)
    while True:
        kind, body = _message(client)
        if kind == b"Z":
            return client
        if kind == b"E" or (kind == b"R" and body[:4] != b"\0\0\0\0"):
            raise LoginRefused(body.replace(b"\0", b" ").decode(errors="replace"))


def _message(client: socket.socket) -> tuple[bytes, bytes]:
    """One message of the server: its type and its body."""
    head = _exactly(client, 5)
    return head[:1], _exactly(client, int.from_bytes(head[1:], "big") - 4)


def _exactly(client: socket.socket, count: int) -> bytes:
    """So many bytes from the server."""
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            raise LoginRefused("the server hung up")
        data += piece
    return data


def tls_context() -> ssl.SSLContext:
    """TLS as C{sslmode=require} speaks it: whoever the server is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def main(arguments: list[str]) -> int:
    """Run the program; 0 when all clients got in, 1 with one line when one did not."""
    parser = argparse.ArgumentParser(prog="bench.idle_clients")
    parser.add_argument("port", type=int)
    parser.add_argument("database")
    parser.add_argument("user")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args(arguments)
    raise_open_files()
    context = tls_context() if options.tls else None
    held: list[socket.socket] = []

    def one_more(_: int) -> socket.socket:
        return log_in(options.port, options.database, options.user, context)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        for line in sys.stdin:
            try:
                held += threads.map(one_more, range(int(line) - len(held)))
            except (LoginRefused, OSError) as error:
                sys.stderr.write(f"client {len(held) + 1} was not let in: {error}\n")
                return 1
            sys.stdout.write(f"{len(held)}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
