"""
A relay of bytes without any protocol: what two programs between a user and a target cost at least.

Run as a program it listens on a port and carries each connection to another, by
C{splice(2)}: no byte is copied to it or from it, and it looks at none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import threading

_MOST = 1 << 20
"""Bytes that one call moves at most, and that the pipe between holds."""


def _carry(source: socket.socket, sink: socket.socket) -> None:
    """Carry one direction to its end."""
    take, put = os.pipe()
    try:
        fcntl.fcntl(put, fcntl.F_SETPIPE_SZ, _MOST)
        while moved := os.splice(source.fileno(), put, _MOST):
            while moved:
                moved -= os.splice(take, sink.fileno(), moved)
    except OSError:
        pass  # the other direction ends by it, too
    finally:
        for one in (take, put):
            os.close(one)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _relay(user: socket.socket, target: int) -> None:
    with user, socket.create_connection(("127.0.0.1", target)) as far:
        for one in (user, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_carry, args=(far, user), daemon=True)
        back.start()
        _carry(user, far)
        back.join()


def main() -> None:
    """Serve for ever: the port to listen on, the port to lead to."""
    port, target = (int(word) for word in sys.argv[1:])
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            user, _ = listening.accept()
            threading.Thread(target=_relay, args=(user, target), daemon=True).start()


if __name__ == "__main__":
    main()
