"""
The command C{python -m bench}: what it is told, and what it does in which order.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from bench.cases import all_names, cases_for
from bench.database import started_database
from bench.peers import Peer, find_pgbouncer
from bench.profile import profile
from bench.programs import REPOSITORY, BenchFailed, Missing, raise_open_files
from bench.report import console, table_of, write_results
from bench.rounds import Result
from bench.scene import Scene, Settings, write_certificate
from bench.sides import PGBOUNCER, PROXYD
from demo.ground import account_for

RESULTS = REPOSITORY / "bench" / "results.json"
FULL = Settings()
QUICK = Settings(rounds=2, seconds=1, copy_bytes=50_000_000, idle_counts=(200, 1000), budget=90.0)


def options_of(arguments: list[str]) -> argparse.Namespace:
    """
    What the command line asks for.

    @raise SystemExit: it is wrong, with 2; or it asked for help, with 0
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure proxyd side by side with its peers.",
        epilog="Names: " + " ".join(all_names()),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (all)")
    parser.add_argument("--quick", action="store_true", help="short and rough: 2 minutes at most")
    parser.add_argument("--rounds", type=_positive, help="pairs of runs for each name")
    parser.add_argument("--seconds", type=_positive, help="length of one run under load")
    parser.add_argument("--output", type=Path, default=None, help=f"results file ({RESULTS.name})")
    parser.add_argument(
        "--noise", action="store_true", help="pgbouncer on both sides: how far from 1 is chance"
    )
    parser.add_argument(
        "--profile", action="store_true", help="show where proxyd's time goes instead"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in all_names()]
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)} (known: {' '.join(all_names())})")
    return options


def _positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the command line's words come to."""
    base = QUICK if options.quick else FULL
    return Settings(
        rounds=options.rounds or base.rounds,
        seconds=options.seconds or base.seconds,
        copy_bytes=base.copy_bytes,
        idle_counts=base.idle_counts,
        budget=base.budget,
        noise=options.noise,
    )


def _pgbouncer(out: Console) -> Peer | None:
    """The peer, named to the reader; None, with the reason, when it can't be had."""
    try:
        peer = find_pgbouncer()
    except Missing as missing:
        out.print(f"skipped: all against pgbouncer: not on this machine: {missing}")
        return None
    out.print(f"peer: pgbouncer {peer.version}")
    return peer


@contextmanager
def _scene(settings: Settings, pgbouncer: Peer | None) -> Iterator[Scene]:
    """All that stands still, from nothing, gone when the block is left."""
    # Not the caller's TMPDIR, which an unprivileged account may not be able to enter.
    with tempfile.TemporaryDirectory(prefix="proxyd-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        ends = time.monotonic() + settings.budget
        with started_database() as database:
            scene = Scene(settings, folder, database, account_for(os.getuid()), pgbouncer, ends)
            write_certificate(scene)
            yield scene


@dataclass(slots=True)
class Outcome:
    """What a run came to: results as they came, and the cases that failed."""

    results: list[Result] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def measure(options: argparse.Namespace, out: Console) -> Outcome:
    """
    Measure what was asked for, telling each result as it comes.

    A case that fails is told and does not keep the others from being measured.

    @raise Missing: a program without which nothing can be measured is not there
    @raise BenchFailed: the database does not start
    """
    names = set(options.names or all_names())
    outcome = Outcome()
    with _scene(settings_of(options), _pgbouncer(out)) as scene:
        cases = cases_for(names)
        for number, case in enumerate(cases):
            title = " ".join(name for name in case.names if name in names)
            try:
                results = case.run(scene.for_one_of(len(cases) - number))
            except Missing as missing:
                out.print(f"skipped: {title}: not on this machine: {missing}")
            except (BenchFailed, OSError) as failure:
                out.print(f"failed: {title}: {failure}")
                outcome.failures.append(title)
            else:
                for result in results:
                    if result.name in names:
                        out.print(f"{result.name} / {result.peer}: {result.ratio:.2f}")
                        outcome.results.append(result)
    return outcome


def main(arguments: list[str]) -> int:
    """
    Run the command; its exit code.

    0: measured. 1: something could not be, told in one line. 2: wrong usage.
    """
    options = options_of(arguments)
    raise_open_files()
    # So that "kill" ends what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = console()
    try:
        if options.profile:
            with _scene(settings_of(options), None) as scene:
                out.print(profile(scene))
            return 0
        outcome = measure(options, out)
    except Missing as missing:
        out.print(f"skipped: all: not on this machine: {missing}")
        return 0
    except BenchFailed as failure:
        out.print(f"failed: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    if outcome.results:
        ours = PGBOUNCER if options.noise else PROXYD
        out.print(table_of(outcome.results, ours))
        # What pgbouncer is against itself is no result of proxyd's.
        output = options.output or (None if options.noise else RESULTS)
        if output is not None:
            write_results(outcome.results, output)
            out.print(f"written: {output}")
    return 1 if outcome.failures else 0
