"""C{agent.bulk} and C{agent.rtt}: how fast a reverse port is, beside those of others."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.agent_doors import PROXYD, READY_SECONDS, opened_doors, user_of
from bench.programs import BenchFailed
from bench.rounds import Result, compare, interleave, percentile
from bench.scene import Scene
from bench.stream import take

STREAMS = 8
PINGS = 200


def bulk(scene: Scene) -> list[Result]:
    """
    Megabytes a second from the target to users: one stream, and eight together.

    @raise Missing: there is no OpenSSH
    """
    size = scene.settings.copy_bytes
    results = []
    with opened_doors(scene, "bench.stream") as opened:
        doors = {side: door.port for side, door in opened.items()}
        for name, streams in (("agent.bulk", 1), ("agent.bulk_8", STREAMS)):
            runs = interleave(
                tuple(doors),
                lambda side, count=streams: _rate(doors[side], size, count),  # type: ignore[misc]
                scene.settings.rounds,
                scene.is_late,
            )
            for peer in doors:
                if peer != PROXYD:
                    ours, theirs = (runs.pick(one, float) for one in (PROXYD, peer))
                    results.append(compare(name, "MB/s", peer, ours, theirs))
    return results


def round_trip(scene: Scene) -> list[Result]:
    """
    The 99th percentile of a ping-pong, in milliseconds, while another stream is saturated.

    Beside it stands that of the same user a moment before, when nobody else was there.

    @raise Missing: there is no OpenSSH
    """
    with opened_doors(scene, "bench.stream") as opened:
        doors = {side: door.port for side, door in opened.items()}
        runs = interleave(
            tuple(doors),
            lambda side: _pings_beside_bulk(doors[side]),
            scene.settings.rounds,
            scene.is_late,
        )
    results = []
    for peer in doors:
        if peer != PROXYD:
            ours, theirs = (
                runs.pick(one, lambda run: percentile(run.busy, 0.99)) for one in (PROXYD, peer)
            )
            more = {
                f"{name}_{whose}": round(runs.middle(side, value), 3)
                for side, whose in ((PROXYD, "ours"), (peer, "theirs"))
                for name, value in _ASIDE.items()
            }
            results.append(
                compare("agent.rtt", "ms", peer, ours, theirs, less_is_better=True, more=more)
            )
    return results


def _rate(door: int, size: int, streams: int) -> float:
    """Megabytes a second of all streams together."""
    problems: list[Exception] = []

    def one() -> None:
        try:
            with user_of(door, size // streams) as user:
                take(user, size // streams)
        except (OSError, BenchFailed) as error:
            problems.append(error)

    threads = [threading.Thread(target=one) for _ in range(streams)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise BenchFailed(f"a stream broke: {problems[0]}")
    return size / 1e6 / (time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class _Pings:
    """Milliseconds of each round trip, alone and beside bulk."""

    idle: list[float]
    busy: list[float]


_ASIDE: Mapping[str, Callable[[_Pings], float]] = {
    "p50": lambda run: percentile(run.busy, 0.5),
    "idle_p50": lambda run: percentile(run.idle, 0.5),
    "idle_p99": lambda run: percentile(run.idle, 0.99),
}


def _pings_beside_bulk(door: int) -> _Pings:
    """Ping-pong of one user; then again while another downloads as fast as it can."""
    with user_of(door, 0) as user:
        _pings(user, 1)  # so that it is through
        idle = _pings(user, PINGS)
        with user_of(door, 1 << 40) as busy:
            stop = threading.Event()
            flows = threading.Event()

            def drain() -> None:
                while not stop.is_set() and busy.recv(1 << 20):
                    flows.set()

            reader = threading.Thread(target=drain)
            reader.start()
            try:
                if not flows.wait(READY_SECONDS):
                    raise BenchFailed("the download does not begin")
                return _Pings(idle, _pings(user, PINGS))
            finally:
                stop.set()
                reader.join()


def _pings(user: socket.socket, count: int) -> list[float]:
    """How long a byte there and a byte back took, in milliseconds."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        user.sendall(b"p")
        if user.recv(1) != b"k":
            raise BenchFailed("no answer")
        taken.append((time.perf_counter() - began) * 1000)
    return taken
