"""
Bulk through a SOCKS5 proxy: a program to send and receive on loopback, and the client of it.

Run as a program it prints its port and serves connections: the client's first
eight bytes say how many bytes it wants, or (negative) how many it will send;
after a zero each byte is answered with one, until the client leaves.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

from bench.programs import BenchFailed

_BLOCK = bytes(1 << 20)
_SECONDS = 120.0


def move(proxy_port: int, target_port: int, size: int) -> float:
    """
    Move bytes through a proxy, one connection, and wait for the last of them.

    @param size: bytes toward us; negative: from us
    @return: megabytes (10**6) a second
    @raise BenchFailed: the proxy refuses, or the connection ends too early
    """
    with socket.create_connection(("127.0.0.1", proxy_port), _SECONDS) as client:
        _ask(client, target_port)
        began = time.perf_counter()
        client.sendall(size.to_bytes(8, "big", signed=True))
        if size > 0:
            take(client, size)
        else:
            _give(client, -size)
            if client.recv(1) != b"k":
                raise BenchFailed("not all bytes arrived")
        return abs(size) / 1e6 / (time.perf_counter() - began)


def _ask(client: socket.socket, target_port: int) -> None:
    """Ask for a port of loopback (RFC 1928)."""
    client.sendall(b"\5\1\0")
    if client.recv(2) != b"\5\0":
        raise BenchFailed("the proxy wants a login")
    client.sendall(b"\5\1\0\1\x7f\0\0\1" + target_port.to_bytes(2, "big"))
    answer = client.recv(10)
    if answer[1:2] != b"\0":
        raise BenchFailed(f"the proxy does not reach the target: {answer.hex()}")


def take(sock: socket.socket, size: int) -> None:
    """
    Receive so many bytes.

    @raise BenchFailed: they do not come
    """
    buffer = bytearray(1 << 20)
    while size > 0:
        got = sock.recv_into(buffer)
        if not got:
            raise BenchFailed("the connection ended too early")
        size -= got


def _give(sock: socket.socket, size: int) -> None:
    view = memoryview(_BLOCK)
    while size > 0:
        size -= sock.send(view[:size])


def _serve(sock: socket.socket) -> None:
    try:
        size = int.from_bytes(sock.recv(8, socket.MSG_WAITALL), "big", signed=True)
        if size > 0:
            _give(sock, size)
        elif size < 0:
            take(sock, -size)
            sock.sendall(b"k")
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while sock.recv(1):
                sock.sendall(b"k")
    except (OSError, BenchFailed):
        pass  # the client knows
    finally:
        sock.close()


def main() -> None:
    """Serve for ever."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
        while True:
            sock, _ = listening.accept()
            threading.Thread(target=_serve, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main()
