"""
One user who sends a byte and waits for one, again and again: a program of its own.

In the process that reads the bulk beside it, it would wait for that one's interpreter.
It is given a port and how many round trips make a run; for each line that it
reads, it makes a run, and writes a line: milliseconds of each, as JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import time

from bench.agent_doors import user_of
from bench.programs import BenchFailed


def main() -> None:
    """Run until there are no more lines."""
    port, count = int(sys.argv[1]), int(sys.argv[2])
    with user_of(port, 0) as user:
        ping(user)  # so that it is through
        for _ in sys.stdin:
            taken = [ping(user) for _ in range(count)]
            sys.stdout.write(json.dumps(taken) + "\n")
            sys.stdout.flush()


def ping(user: socket.socket) -> float:
    """How long a byte there and a byte back takes, in milliseconds."""
    began = time.perf_counter()
    user.sendall(b"p")
    if user.recv(1) != b"k":
        raise BenchFailed("no answer")
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
