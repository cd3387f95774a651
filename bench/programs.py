"""
The programs that a benchmark starts: found, started, watched and ended here.

A program runs in a session of its own. Linux's scheduler groups tasks by
session (C{sched(7)}, autogroup), and a proxy that shared the load generator's
group would look slower than one that doesn't. Each is ended by its process id.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from demo.ground import Account

REPOSITORY = Path(__file__).resolve().parent.parent
PEERS = REPOSITORY / ".peers"
START_SECONDS = 20.0
STOP_SECONDS = 10.0
SETTLE_SECONDS = 65.0
REMEMBERED = 5_000
TRIES = 3
OPEN_FILES = 16_384


class Missing(Exception):
    """A program that a benchmark needs is not on this machine; the text says which."""


class BenchFailed(Exception):
    """A benchmark could not be run to its end; the text says what went wrong, in one line."""


def find_program(name: str, folders: Sequence[Path] = ()) -> Path:
    """
    The path of a program, looked for in the folders first, then on the path.

    @param folders: where it is expected, the best place first
    @raise Missing: it is nowhere
    """
    # PostgreSQL's own folders before PATH: Debian's /usr/bin has wrappers in
    # Perl there, which cost more to start than what they start.
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in (*folders, *servers):
        if os.access(folder / name, os.X_OK):
            return folder / name
    found = shutil.which(name) or shutil.which(name, path=f"/usr/sbin:{PEERS / 'bin'}")
    if found is None:
        raise Missing(name)
    return Path(found)


def raise_open_files() -> None:
    """Let this process and its children hold thousands of sockets, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def remembered(sockstat: str) -> int:
    """How many closed TCP connections are remembered (TIME-WAIT), by C{/proc/net/sockstat}."""
    found = re.search(r"^TCP:.* tw (\d+)", sockstat, re.MULTILINE)
    return int(found[1]) if found else 0


def settle() -> None:
    """
    Wait until few closed connections are remembered; that takes a minute at most.

    Dante binds each socket before it connects it, and then a port is in use as long as
    anybody's connection from it is remembered: after ten thousands it finds none.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        if remembered(Path("/proc/net/sockstat").read_text()) < REMEMBERED:
            return
        time.sleep(1.0)


class Program:
    """
    A daemon under measurement, running until L{stop}.

    @param name: what it is called in messages
    @param argv: its command line
    @param folder: its working folder; its output goes to C{NAME.log} there
    @param account: who runs it; None: we ourselves
    @param environment: all of its variables; None: ours
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        folder: Path,
        account: Account | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log_path = folder / f"{name}.log"
        self._log: IO[bytes] = self._log_path.open("wb")
        self._process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=folder,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **({} if account is None else account.identity()),
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_listening(self, port: int) -> None:
        """
        Return when it accepts connections on a port of loopback.

        @raise BenchFailed: it ended, or did not within 20 seconds; with its last line
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BenchFailed(f"{self.name} ended at its start: {self.last_line()}")
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise BenchFailed(f"{self.name} does not listen on port {port}: {self.last_line()}")

    def last_line(self) -> str:
        """The last line of its output; a word in brackets when there is none."""
        lines = self._log_path.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "(no output)")

    def cpu_seconds(self) -> float:
        """
        CPU time that its living threads have used, in seconds.

        From C{/proc/PID/task/*/schedstat}, whose first field counts
        nanoseconds on a CPU (Linux, Documentation/scheduler/sched-stats).
        """
        return _cpu_seconds(self.pid)

    def resident_bytes(self) -> int:
        """Its resident memory now, in bytes (C{/proc/PID/smaps_rollup}, which is exact)."""
        return _resident(self.pid)

    def stop(self) -> None:
        """End it, by SIGTERM, then after 10 seconds by SIGKILL; done when it is gone."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()


def resident_of_tree(pid: int) -> int:
    """Resident memory of a program and all that it has started, in bytes."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    below = [int(child) for task in tasks for child in task.read_text().split()]
    return _resident(pid) + sum(resident_of_tree(child) for child in below)


def cpu_seconds_of_tree(pid: int) -> float:
    """CPU time of a program and all living ones that it has started, in seconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    below = [int(child) for task in tasks for child in task.read_text().split()]
    return _cpu_seconds(pid) + sum(cpu_seconds_of_tree(child) for child in below)


def _cpu_seconds(pid: int) -> float:
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):  # a thread that ended while we looked
            continue
    return total / 1e9


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n"):
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise BenchFailed(f"process {pid}: the system does not tell its memory")
