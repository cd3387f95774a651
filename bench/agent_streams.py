"""
C{agent.streams}: many users of a reverse port who do nothing.

How many can be opened a second, one byte there and back each, and what each weighs then:
resident memory of the server and of the agent since a few came and went.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.agent_doors import PROXYD, Door, opened_doors, user_of
from bench.programs import BenchFailed, resident_of_tree
from bench.rounds import Result, compare, interleave
from bench.scene import Scene

FIRST = 50
SIDE_BY_SIDE = 16
EACH_ROUND = 1000
SECONDS = 40.0
"""After so long no more are opened: who can't have all has fewer, and that is told."""
IDLE = 0.02
SETTLE_SECONDS = 5.0
SETTLED_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Held:
    """
    What came of one side.

    @param streams: how many were open at last
    @param server: bytes of the server, each
    @param agent: bytes of the agent, each
    """

    streams: int
    server: float
    agent: float


def streams(scene: Scene) -> list[Result]:
    """
    Opens a second, and bytes of memory for each open stream.

    @raise Missing: there is no OpenSSH
    """
    # Twice as many as idle PostgreSQL clients: 10,000, or 2,000 where it has to be quick.
    count = 2 * scene.settings.idle_counts[-1]
    with opened_doors(scene, "bench.stream_crowd") as doors:
        found = {side: _held(side, door, count) for side, door in doors.items()}
        runs = interleave(
            tuple(doors), lambda side: _rate(doors[side]), scene.settings.rounds, scene.is_late
        )
    ours = found.pop(PROXYD)
    results = []
    for peer, theirs in found.items():
        more = {
            "streams_ours": ours.streams,
            "streams_theirs": theirs.streams,
            "server_kb_ours": round(ours.server / 1000, 2),
            "server_kb_theirs": round(theirs.server / 1000, 2),
            "agent_kb_ours": round(ours.agent / 1000, 2),
            "agent_kb_theirs": round(theirs.agent / 1000, 2),
        }
        name = "agent.streams"
        rates = [runs.pick(side, float) for side in (PROXYD, peer)]
        results.append(compare(name, "per s", peer, *rates, more=more))
        weights = [max(1.0, one.server + one.agent) for one in (ours, theirs)]
        name = "agent.streams.memory"
        results.append(
            compare(name, "bytes", peer, weights[:1], weights[1:], less_is_better=True, more=more)
        )
    return results


def _held(side: str, door: Door, count: int) -> Held:
    _leave(_open(door.port, FIRST))
    before = _weight(door)
    users = _open(door.port, count)
    if not users:
        raise BenchFailed(f"{side} opens none")
    after = _weight(door)
    _leave(users)
    _rest(door)
    growth = [(now - was) / len(users) for was, now in zip(before, after, strict=True)]
    return Held(len(users), *growth)


def _rate(door: Door) -> float:
    """Users opened a second, where there are none at first."""
    began = time.monotonic()
    users = _open(door.port, EACH_ROUND)
    seconds = time.monotonic() - began
    _leave(users)
    _rest(door)
    return max(1, len(users)) / seconds


def _open(port: int, count: int) -> list[socket.socket]:
    """So many users, or those that could be had in time."""
    users: list[socket.socket] = []
    late = time.monotonic() + SECONDS

    def one(_: int) -> None:
        if time.monotonic() > late:
            return
        try:
            user = user_of(port, 1)
            if user.recv(1):
                users.append(user)
            else:
                user.close()
        except OSError:
            pass  # it can't have so many

    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        for _ in threads.map(one, range(count)):
            pass
    return users


def _leave(users: list[socket.socket]) -> None:
    for user in users:
        user.close()


def _rest(door: Door) -> None:
    """Wait until the agent has nothing to do any more, so that it is not in the next one's way."""
    deadline = time.monotonic() + SECONDS
    last = -1.0
    while (now := door.agent.cpu_seconds()) - last > IDLE and time.monotonic() < deadline:
        last = now
        time.sleep(0.25)


def _weight(door: Door) -> tuple[int, int]:
    """Resident bytes of server and agent, once they have stopped moving."""
    deadline = time.monotonic() + SETTLE_SECONDS
    last = (0, 0)
    while True:
        now = (resident_of_tree(door.server.pid), resident_of_tree(door.agent.pid))
        still = all(abs(a - b) < SETTLED_BYTES for a, b in zip(now, last, strict=True))
        if still or time.monotonic() > deadline:
            return now
        last = now
        time.sleep(0.5)
