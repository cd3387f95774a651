"""
What the SOCKS benchmarks connect to: a server that gives back what it is sent,
or sends as much as it is asked for.

C{python -m bench.socks_target PORT}
"""

from __future__ import annotations

import socket
import sys
import threading

BLOCK = bytes(1 << 20)


def serve(port: int) -> None:
    """Serve until the process ends."""
    with socket.create_server(("127.0.0.1", port), backlog=4096) as listening:
        while True:
            sock, _ = listening.accept()
            threading.Thread(target=_one, args=(sock,), daemon=True).start()


def _one(sock: socket.socket) -> None:
    """One client: C{D} and eight bytes ask for so many; all else comes back, and that is all."""
    with sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = sock.recv(9)
            if data[:1] == b"D":
                left = int.from_bytes(data[1:9], "big")
                while left > 0:
                    left -= sock.send(BLOCK[:left] if left < len(BLOCK) else BLOCK)
                while data:
                    data = sock.recv(65536)
            else:
                sock.sendall(data)
        except OSError:
            return


if __name__ == "__main__":
    serve(int(sys.argv[1]))
