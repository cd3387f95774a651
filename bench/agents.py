"""C{agent.bulk} and C{agent.rtt}: how fast a reverse port is, beside those of others."""

from __future__ import annotations

import threading
import time

from bench.agent_doors import PROXYD, opened_doors, user_of
from bench.programs import BenchFailed
from bench.rounds import Result, compare, interleave, percentile
from bench.scene import Scene
from bench.stream import take

STREAMS = 8
PINGS = 20


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

    @raise Missing: there is no OpenSSH
    """
    with opened_doors(scene, "bench.stream") as opened:
        doors = {side: door.port for side, door in opened.items()}
        idle = {side: percentile(_pings(door), 0.99) for side, door in doors.items()}
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
                runs.pick(one, lambda run: percentile(run, 0.99)) for one in (PROXYD, peer)
            )
            more = {
                "p50_ours": round(runs.middle(PROXYD, lambda run: percentile(run, 0.5)), 3),
                "p50_theirs": round(runs.middle(peer, lambda run: percentile(run, 0.5)), 3),
                "idle_p99_ours": round(idle[PROXYD], 3),
                "idle_p99_theirs": round(idle[peer], 3),
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


def _pings(door: int) -> list[float]:
    """How long a byte there and a byte back took, in milliseconds."""
    taken = []
    for _ in range(PINGS):
        with user_of(door, -1) as user:
            time.sleep(0.002)  # so that the connection is through before the byte goes
            began = time.perf_counter()
            user.sendall(b"p")
            if user.recv(1) != b"k":
                raise BenchFailed("no answer")
            taken.append((time.perf_counter() - began) * 1000)
    return taken


def _pings_beside_bulk(door: int) -> list[float]:
    """The same while another user downloads as fast as it can."""
    with user_of(door, 1 << 40) as busy:
        stop = threading.Event()

        def drain() -> None:
            while not stop.is_set() and busy.recv(1 << 20):
                pass

        reader = threading.Thread(target=drain)
        reader.start()
        try:
            return _pings(door)
        finally:
            stop.set()
            reader.join()
