"""
The load: pgbench and psql's COPY against one side, and what they and the system tell of it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.database import run
from bench.programs import BenchFailed, find_program
from bench.rounds import percentile
from bench.scene import Scene
from bench.sides import Side

SPARE_SECONDS = 60.0
LATENCY_SHARE = 0.2
COPY_ROW = 8000
COPY_TABLE = "copied"


@dataclass(frozen=True, slots=True)
class Queries:
    """
    One run of pgbench.

    @param rate: transactions (or connections) a second
    @param cpu_us: the side's own CPU for each of them, in microseconds
    @param p50_ms: the median latency in milliseconds; nought when not asked for
    @param p99_ms: the 99th percentile
    """

    rate: float
    cpu_us: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Copied:
    """
    One COPY.

    @param rate: megabytes (10**6) a second
    @param cpu_per_gb: the side's own CPU for 10**9 bytes, in seconds
    """

    rate: float
    cpu_per_gb: float


def select(
    scene: Scene,
    side: Side,
    *,
    clients: int,
    protocol: str = "simple",
    seconds: int | None = None,
) -> Queries:
    """
    Run pgbench's read-only transaction (one SELECT by primary key) over kept connections.

    @param protocol: simple, extended or prepared
    @param seconds: how long; None: as the settings say
    @raise BenchFailed: pgbench failed, or a client of it did
    """
    options = ["-M", protocol, f"--sampling-rate={LATENCY_SHARE}", "-l"]
    with tempfile.TemporaryDirectory(dir=scene.folder) as folder:
        prefix = f"{folder}/latency"
        options += [f"--log-prefix={prefix}"]
        done = _pgbench(scene, side, clients, seconds, options)
        latencies = [
            int(line.split()[2]) / 1000
            for path in Path(folder).iterdir()
            for line in path.read_text().splitlines()
        ]
    if not latencies:
        return done
    return Queries(done.rate, done.cpu_us, percentile(latencies, 0.5), percentile(latencies, 0.99))


def connect(scene: Scene, side: Side, *, clients: int, seconds: int | None = None) -> Queries:
    """
    Run the same with a new connection for each transaction.

    @raise BenchFailed: pgbench failed, or a client of it did
    """
    return _pgbench(scene, side, clients, seconds, ["-C"])


def _pgbench(
    scene: Scene, side: Side, clients: int, seconds: int | None, options: Sequence[str]
) -> Queries:
    """One run of pgbench -S, without its latencies."""
    pgbench = find_program("pgbench", (scene.database.binaries,))
    duration = scene.settings.seconds if seconds is None else seconds
    threads = min(2, clients)
    before = side.cpu_seconds()
    output = run(
        [pgbench, "-nS", "-c", str(clients), "-j", str(threads), "-T", str(duration), *options],
        side.place,
        duration + SPARE_SECONDS,
    )
    used = side.cpu_seconds() - before
    done = int(_number(r"transactions actually processed: (\d+)", output))
    if done == 0:
        raise BenchFailed(f"not one transaction got through {side.name}")
    return Queries(_number(r"^tps = ([\d.]+)", output), used / done * 1e6)


def write_copy_file(scene: Scene) -> Path:
    """A file of rows for COPY, of the size that the settings say, written once a run."""
    path = scene.folder / "rows.txt"
    if not path.exists():
        row = "x" * 999 + "\n"
        path.write_text(row * (scene.settings.copy_bytes // len(row)))
        scene.database.psql(f"CREATE UNLOGGED TABLE IF NOT EXISTS {COPY_TABLE} (line text)")
        scene.database.psql(f"GRANT ALL ON {COPY_TABLE} TO PUBLIC")
    return path


def copy_out(scene: Scene, side: Side) -> Copied:
    """
    COPY rows of 8 kB out of the server, thrown away by psql.

    @raise BenchFailed: psql failed
    """
    rows = scene.settings.copy_bytes // COPY_ROW
    source = f"SELECT repeat('x', {COPY_ROW - 1}) FROM generate_series(1, {rows})"
    return _copy(scene, side, f"COPY ({source}) TO STDOUT", rows * COPY_ROW)


def copy_in(scene: Scene, side: Side) -> Copied:
    """
    COPY a file of 1 kB rows into an emptied, unlogged table; psql sends pieces of 8 kB.

    @raise BenchFailed: psql failed
    """
    path = write_copy_file(scene)
    scene.database.psql(f"TRUNCATE {COPY_TABLE}")
    return _copy(scene, side, f"\\copy {COPY_TABLE} FROM '{path}'", path.stat().st_size)


def _copy(scene: Scene, side: Side, command: str, size: int) -> Copied:
    """One COPY by psql, timed by psql itself, so that its start is not in the figure."""
    psql = find_program("psql", (scene.database.binaries,))
    before = side.cpu_seconds()
    output = run(
        [psql, "-Xqv", "ON_ERROR_STOP=1", "-o", "/dev/null", "-c", "\\timing on", "-c", command],
        side.place,
        SPARE_SECONDS,
    )
    used = side.cpu_seconds() - before
    seconds = _number(r"^Time: ([\d.]+) ms", output) / 1000
    return Copied(size / 1e6 / seconds, used / (size / 1e9))


def _number(pattern: str, text: str) -> float:
    """
    The number that a program's output tells.

    @raise BenchFailed: it does not tell it
    """
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise BenchFailed(f"no {pattern!r} in: {text.strip()[-200:]}")
    return float(found.group(1))
