"""
Ports and readiness: a free port of this machine, and whether a PostgreSQL answers.

Waiting is by polling with a deadline, in blocking Python.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

POLL_SECONDS = 0.05
ANSWER_SECONDS = 5.0
CANNOT_CONNECT_NOW = b"C57P03\x00"


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of this machine that nobody listens on at this moment."""
    with socket.socket() as listener:
        # A port that only closed connections are remembered by is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
    return port


def port_or_free(host: str, port: int) -> int:
    """This port if it can be listened on now, else a free one."""
    with socket.socket() as listener:
        # As servers do: a port whose last connections are in TIME_WAIT is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return free_port(host)
    return port


def answers(address: str | tuple[str, int]) -> bool:
    """
    Whether a PostgreSQL (or proxyd) at this address takes logins now.

    A StartupMessage is sent as C{psql} would send it; a request for a password
    is a yes, and any refusal but C{57P03} (cannot connect now) is one too
    (PostgreSQL's "Message Flow", Start-up). Nobody logs in.

    @param address: a UNIX socket's path, or a host and a port
    """
    words = b"user\x00postgres\x00database\x00postgres\x00\x00"
    start_up = struct.pack("!II", 8 + len(words), 3 << 16) + words
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(ANSWER_SECONDS)
        try:
            probe.connect(address)
            probe.sendall(start_up)
            answer = _read(probe)
        except OSError:
            return False
    return answer[:1] == b"R" or (answer[:1] == b"E" and CANNOT_CONNECT_NOW not in answer)


def wait_until_ready(
    address: str | tuple[str, int], alive: Callable[[], bool], seconds: float
) -> bool:
    """
    Wait until L{answers}; False when the process is gone first, or the time is over.

    @param alive: whether the process that is to answer still runs
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and alive():
        if answers(address):
            return alive()
        time.sleep(POLL_SECONDS)
    return False


def _read(probe: socket.socket) -> bytes:
    """The first message of an answer, as far as it comes."""
    answer = b""
    while len(answer) < 5 or len(answer) < 1 + int.from_bytes(answer[1:5], "big"):
        more = probe.recv(4096)
        if not more:
            break
        answer += more
    return answer
