"""C{agent.bulk} and C{agent.rtt}: how fast a reverse port is, beside those of others."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bench.agent_doors import PLAIN, PROXYD, READY_SECONDS, Door, opened_doors, user_of
from bench.programs import REPOSITORY, BenchFailed, cpu_seconds_of_tree
from bench.rounds import Result, compare, interleave, percentile
from bench.scene import Scene
from bench.stream import take

STREAMS = 8
PINGS = 200


def bulk(scene: Scene) -> list[Result]:
    """
    Megabytes a second from the target to users: one stream, and eight together.

    Among the peers are two relays without a protocol: no reverse port is faster than they.

    @raise Missing: there is no OpenSSH
    """
    return _bulk(scene, {"agent.bulk": 1, "agent.bulk_8": STREAMS}, tls=False)


def bulk_tls(scene: Scene) -> list[Result]:
    """
    The same for one stream, when our agent comes by TLS.

    @raise Missing: there is no OpenSSH
    """
    return _bulk(scene, {"agent.bulk.tls": 1}, tls=True)


def _bulk(scene: Scene, names: Mapping[str, int], *, tls: bool) -> list[Result]:
    size = scene.settings.copy_bytes
    results = []
    with opened_doors(scene, "bench.stream", tls=tls, plain=not tls) as doors:
        for name, streams in names.items():
            runs = interleave(
                tuple(doors),
                lambda side, count=streams: _moved(doors[side], size, count),  # type: ignore[misc]
                scene.settings.rounds,
                scene.is_late,
            )
            for peer in doors:
                if peer != PROXYD:
                    ours, theirs = (runs.pick(one, lambda run: run.rate) for one in (PROXYD, peer))
                    more = {
                        f"cpu_s_per_gb_{whose}": round(runs.middle(side, lambda run: run.cpu), 3)
                        for side, whose in ((PROXYD, "ours"), (peer, "theirs"))
                        # Its threads end with their streams, and what they used is not told then.
                        if side != PLAIN
                    }
                    results.append(compare(name, "MB/s", peer, ours, theirs, more=more))
    return results


def round_trip(scene: Scene) -> list[Result]:
    """
    The 99th percentile of a ping-pong, in milliseconds, while another stream is saturated.

    Beside it stands that of the same user a moment before, when nobody else was there. Among
    the peers is the target's own port, with nothing between.

    @raise Missing: there is no OpenSSH
    """
    with opened_doors(scene, "bench.stream", direct=True) as opened:
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


@dataclass(frozen=True, slots=True)
class _Moved:
    """
    What moving bytes came to.

    @param rate: megabytes a second of all streams together
    @param cpu: seconds of CPU for each GB, of server and agent together
    """

    rate: float
    cpu: float


def _moved(door: Door, size: int, streams: int) -> _Moved:
    """Move so many bytes, over all streams together."""
    before = _cpu_of(door)
    rate = _rate(door.port, size, streams)
    return _Moved(rate, (_cpu_of(door) - before) / (size / 1e9))


def _cpu_of(door: Door) -> float:
    return sum(cpu_seconds_of_tree(one.pid) for one in (door.server, door.agent))


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
    """
    Milliseconds of each round trip, alone and beside bulk.

    @param beside: megabytes a second of that bulk
    """

    idle: list[float]
    busy: list[float]
    beside: float


_ASIDE: Mapping[str, Callable[[_Pings], float]] = {
    "p50": lambda run: percentile(run.busy, 0.5),
    "idle_p50": lambda run: percentile(run.idle, 0.5),
    "idle_p99": lambda run: percentile(run.idle, 0.99),
    "beside_mb_s": lambda run: run.beside,
}


def _pings_beside_bulk(door: int) -> _Pings:
    """Ping-pong of one user; then again while another downloads as fast as it can."""
    with _pinging(door) as pings:
        idle = pings()
        with user_of(door, 1 << 40) as busy:
            stop = threading.Event()
            flows = threading.Event()
            moved = [0]

            def drain() -> None:
                buffer = bytearray(1 << 20)
                while not stop.is_set() and (got := busy.recv_into(buffer)):
                    moved[0] += got
                    flows.set()

            reader = threading.Thread(target=drain)
            reader.start()
            try:
                if not flows.wait(READY_SECONDS):
                    raise BenchFailed("the download does not begin")
                before, began = moved[0], time.perf_counter()
                beside = pings()
                rate = (moved[0] - before) / 1e6 / (time.perf_counter() - began)
                return _Pings(idle, beside, rate)
            finally:
                stop.set()
                reader.join()


@contextmanager
def _pinging(door: int) -> Iterator[Callable[[], list[float]]]:
    """A user in a program of its own; each call is a run of round trips."""
    words = (sys.executable, "-m", "bench.pings", str(door), str(PINGS))
    user = subprocess.Popen(
        words,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert user.stdin is not None and user.stdout is not None

    def run() -> list[float]:
        try:
            user.stdin.write("go\n")  # type: ignore[union-attr]
            user.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            pass  # it has ended, as is seen at once
        line = user.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise BenchFailed("the round trips broke off")
        taken: list[float] = json.loads(line)
        return taken

    try:
        yield run
    finally:
        user.kill()
        user.communicate()
