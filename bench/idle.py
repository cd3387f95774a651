"""
What an idle client costs a proxy in memory.

The clients are logged in and have asked nothing yet: with session pooling, a
client that has asked holds a server, which no proxy has thousands of. The cost
is the growth of the proxy's resident memory since a few clients came and went,
by the number of clients.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.place import Place
from bench.programs import REPOSITORY, BenchFailed, Program
from bench.sides import Side

FIRST_CLIENTS = 20
SETTLE_SECONDS = 5.0
SETTLED_BYTES = 64 * 1024
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class IdleMemory:
    """
    What was read of one side.

    @param base: resident bytes before the clients
    @param per_client: growth for each client in bytes, one entry for each count
    """

    base: int
    per_client: tuple[float, ...]


class IdleClients:
    """The program of L{bench.idle_clients}, holding its clients until it is ended."""

    def __init__(self, place: Place) -> None:
        flags = ["--tls"] if place.tls else []
        where = [str(place.port), place.database, place.user.name]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.idle_clients", *where, *flags],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def hold(self, count: int) -> None:
        """
        Return when so many clients are logged in.

        @raise BenchFailed: one was not let in; with what it was told
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(f"{count}\n")
        process.stdin.flush()
        if not process.stdout.readline():
            raise BenchFailed(f"idle clients: {process.stderr.read().strip()}")

    def leave(self) -> None:
        """Hang up all of them; done when their program has ended."""
        try:
            self._process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@contextmanager
def _clients(place: Place) -> Iterator[IdleClients]:
    """Idle clients, gone when the block is left."""
    clients = IdleClients(place)
    try:
        yield clients
    finally:
        clients.leave()


def idle_memory(side: Side, counts: tuple[int, ...]) -> IdleMemory:
    """
    Read what idle clients cost this side.

    @param counts: how many clients, rising
    @raise BenchFailed: one was not let in
    """
    program = side.program
    if program is None:
        raise BenchFailed(f"{side.name} has no program whose memory could be read")
    with _clients(side.place) as clients:
        clients.hold(FIRST_CLIENTS)
    base = _settled(program)
    per_client = []
    with _clients(side.place) as clients:
        for count in counts:
            clients.hold(count)
            per_client.append((_settled(program) - base) / count)
    return IdleMemory(base, tuple(per_client))


def _settled(program: Program) -> int:
    """Its resident memory once that has stopped moving, in bytes."""
    deadline = time.monotonic() + SETTLE_SECONDS
    last = program.resident_bytes()
    while time.monotonic() < deadline:
        time.sleep(0.3)
        now = program.resident_bytes()
        if abs(now - last) < SETTLED_BYTES:
            return now
        last = now
    return last
