"""
Stops what a test run leaves behind when it is killed, which no C{atexit} sees.

Run as a program with a folder as its argument: it waits for the end of its
standard input, which its starter holds open, then stops the PostgreSQL whose
data is in that folder and removes the folder. Where all was put away in good
order there is nothing left to do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.deadlines import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
STOP_SECONDS = 20.0


def guard(folder: Path) -> subprocess.Popen[bytes]:
    """Have a PostgreSQL's folder put away when this process is gone."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.guard", str(folder)],
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


def _put_away(folder: Path) -> None:
    try:
        pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGINT)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), STOP_SECONDS, "the server to stop")
    except (OSError, ValueError, IndexError):
        pass  # it does not run any more
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    # An interrupt at the terminal is for the tests, which end this by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    _put_away(Path(sys.argv[1]))
