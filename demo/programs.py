"""
A PostgreSQL server's programs, run as the user the server runs as.

Which programs and which user is said once; each call says what to do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from demo.files import write_secret
from demo.ground import Account

STOP_SECONDS = 15.0
RUN_SECONDS = 120.0


class ClusterError(Exception):
    """The server can't be made, started or asked; the text ends with what it said."""


@dataclass(frozen=True, slots=True)
class Programs:
    """
    A server's programs.

    @param binaries: their folder, which the account reaches
    @param account: the user they run as
    @param folder: where they run, and their C{HOME}
    """

    binaries: Path
    account: Account
    folder: Path

    def run(self, name: str, *arguments: str) -> None:
        """
        Run a program and wait for it.

        @raise ClusterError: it failed
        """
        done = subprocess.run(
            [str(self.binaries / name), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
            env=environment(self.folder),
            cwd=self.folder,
            **self.account.identity(),
        )
        if done.returncode:
            raise ClusterError(f"{name}: {done.stderr.strip() or done.stdout.strip()}")

    def make_data(self, data: Path, superuser: str, password: str, *, durable: bool) -> None:
        """
        Make a data folder, whole or not at all; every login in it is by SCRAM.

        @raise ClusterError: C{initdb} failed
        """
        unfinished = data.with_name(data.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self.account.own(unfinished)
        pwfile = self.folder / "password.initdb"
        write_secret(pwfile, password.encode(), self.account)
        words = ["-D", str(unfinished), "-U", superuser, "--pwfile", str(pwfile)]
        words += ["-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions"]
        try:
            self.run("initdb", *words, *([] if durable else ["--no-sync"]))
        finally:
            pwfile.unlink()
        unfinished.rename(data)

    def serve(self, data: Path, configuration: Path, log: Path) -> subprocess.Popen[bytes]:
        """
        Start the server, in a session of its own: a terminal's Ctrl-C is not for it.

        @param log: what it says goes here, from the start of the file
        """
        command = [str(self.binaries / "postgres"), "-D", str(data)]
        command += ["-c", f"config_file={configuration}"]
        with log.open("wb") as said:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment(self.folder),
                cwd=self.folder,
                start_new_session=True,
                **self.account.identity(),
            )

    def stop_leftover(self, data: Path) -> None:
        """
        Stop a server that still runs on this data, left there when its starter was killed.

        @raise ClusterError: it does not stop
        """
        try:
            left = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
            its_folder = Path(f"/proc/{left}/cwd").resolve(strict=True)
        except (OSError, ValueError):
            return
        # A pid is given again to others: this one is the server only if it works here.
        if its_folder == data.resolve():
            self.run("pg_ctl", "stop", "-D", str(data), "-m", "fast", "-s")


def environment(home: Path) -> dict[str, str]:
    """Our environment without the variables that steer libpq and the server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "HOME": str(home)}


def end(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    """
    End a server by its pid and wait until it is gone.

    @param first: SIGINT for a fast shutdown, SIGQUIT for a crash; one that
        does not go is sent stronger signals
    """
    for number in (first, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return
