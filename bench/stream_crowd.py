"""
A target with thousands of connections: says one byte to each that asks, and holds it.

Run as a program with its port; one thread and one epoll, so that it holds ten thousand.
"""

from __future__ import annotations

import select
import socket
import sys

from bench.programs import raise_open_files


def main() -> None:
    """Serve for ever."""
    raise_open_files()
    listening = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1000)
    listening.setblocking(False)
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    held: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == listening.fileno():
                _accept(listening, poll, held)
            elif not _answer(held[number]):
                held.pop(number).close()


def _accept(listening: socket.socket, poll: select.epoll, held: dict[int, socket.socket]) -> None:
    try:
        sock, _ = listening.accept()
    except OSError:
        return  # it has left again
    sock.setblocking(False)
    held[sock.fileno()] = sock
    poll.register(sock, select.EPOLLIN)


def _answer(sock: socket.socket) -> bool:
    """False: it has left."""
    try:
        if not sock.recv(64):
            return False
        sock.sendall(b"k")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
