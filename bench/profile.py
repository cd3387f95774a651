"""
Where proxyd's own time goes under load: C{python -m bench --profile}.

py-spy samples the process from outside where it is installed and allowed to;
else proxyd runs under C{twistd --profile} with cProfile, which slows every
call and so shows proportions only.
"""

from __future__ import annotations

import os
import pstats
import re
import subprocess
import sys
from collections import Counter
from io import StringIO
from pathlib import Path

from bench.database import NAME
from bench.load import Queries, select
from bench.place import Place
from bench.programs import BenchFailed, Missing, find_program
from bench.scene import Scene
from bench.sides import PROXYD, Login, Side, start_proxyd
from demo.probe import free_port

CLIENTS = 32
SECONDS = 8
SAMPLES_A_SECOND = 500
LINES = 15
WAIT_SECONDS = 30.0
# The line in a frame of py-spy's, "name (file:line)": without it, frames are functions.
_LINE_NUMBER = re.compile(r"(\([^();]*):\d+(?=\))")


def profile(scene: Scene) -> str:
    """
    The top functions and lines of proxyd's profile under the load of C{pg.simple.c32}, as text.

    @raise BenchFailed: proxyd or the profiler did not run
    """
    try:
        sampler = find_program("py-spy", (Path(sys.executable).parent,))
    except Missing:
        return _traced(scene)
    return _sampled(scene, sampler)


def _sampled(scene: Scene, sampler: Path) -> str:
    """The profile by py-spy's samples of threads that were not idle."""
    folder = scene.make_folder(PROXYD)
    port = free_port()
    program = start_proxyd(scene, folder, port, Login.TRUST)
    try:
        program.wait_listening(port)
        side = Side(PROXYD, Place(port, NAME, scene.database.client), program)
        select(scene, side, clients=CLIENTS, seconds=1)
        stacks = folder / "stacks.txt"
        options = ["-r", str(SAMPLES_A_SECOND), "-d", str(SECONDS), "-f", "raw"]
        watching = subprocess.Popen(
            [sampler, "record", "--pid", str(program.pid), *options, "-o", stacks],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            done = select(scene, side, clients=CLIENTS, seconds=SECONDS + 1)
            _, said = watching.communicate(timeout=WAIT_SECONDS)
        finally:
            if watching.poll() is None:
                watching.kill()
                watching.communicate()
        if watching.returncode != 0:
            raise BenchFailed(f"py-spy: {(said.strip().splitlines() or ['no word'])[-1]}")
        text = stacks.read_text()
        tables = [top_of_stacks(_LINE_NUMBER.sub(r"\1", text), LINES), top_of_stacks(text, LINES)]
        return _head("py-spy", done) + "\n\n".join(tables)
    finally:
        program.stop()


def top_of_stacks(text: str, count: int) -> str:
    """
    The frames in which most samples ended, from py-spy's raw format.

    @param text: a line for each stack: its frames from the outermost on,
        split by C{;}, then a space and the number of samples
    @param count: how many frames to tell
    """
    own: Counter[str] = Counter()
    under: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(samples)
        for frame in set(frames):
            under[frame] += int(samples)
    total = max(1, sum(own.values()))
    rows = [
        f"{100 * samples / total:6.1f} %  {100 * under[frame] / total:6.1f} %  {frame}"
        for frame, samples in own.most_common(count)
    ]
    return "\n".join([f"{'own':>8}  {'with callees':>12}", *rows])


def _traced(scene: Scene) -> str:
    """The profile by cProfile inside proxyd, which C{twistd} writes when it ends."""
    folder = scene.make_folder(PROXYD)
    port = free_port()
    statistics = folder / "profile.stats"
    options = ["--profiler=cprofile", "--savestats", f"--profile={statistics}"]
    program = start_proxyd(scene, folder, port, Login.TRUST, twistd_options=options)
    try:
        program.wait_listening(port)
        side = Side(PROXYD, Place(port, NAME, scene.database.client), program)
        done = select(scene, side, clients=CLIENTS, seconds=SECONDS)
    finally:
        program.stop()
    if not statistics.exists() or os.path.getsize(statistics) == 0:
        raise BenchFailed("twistd wrote no profile")
    table = StringIO()
    pstats.Stats(str(statistics), stream=table).sort_stats("tottime").print_stats(2 * LINES)
    return _head("cProfile", done) + table.getvalue()


def _head(tool: str, done: Queries) -> str:
    """What the load did while the profile was taken."""
    return f"{tool}: {done.rate:,.0f} queries/s, {done.cpu_us:.1f} us of CPU each\n"
