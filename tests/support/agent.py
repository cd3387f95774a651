"""
An agent as a person runs it: C{twistd -n proxyd-agent}, a process to look at from outside.

Also where its users lead to: a server on loopback, in threads.
"""

from __future__ import annotations

import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.daemon import _end_with_us, environment_for
from tests.support.deadlines import DeadlinePassed, wait_until

STOP_SECONDS = 20.0
LINGER_RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: a close is a reset (socket(7))."""


class AgentProcess:
    """
    A running agent.

    @param url: the server's
    @param token: its token; goes by a file
    @param options: more of its command line
    @param starter: words before its command
    """

    def __init__(self, url: str, token: str, *options: str, starter: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="proxyd-agent-"))
        self.folder.chmod(0o755)
        self._words = ["--server", url, "--token-file", str(self.folder / "token"), *options]
        self._starter = list(starter)
        (self.folder / "token").write_text(token)
        (self.folder / "token").chmod(0o644 if starter else 0o600)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def check(self) -> None:
        """@raise AssertionError: it has ended"""
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"the agent has ended:\n{self.log_text()}")

    def start(self) -> None:
        """Start it; that it is connected is told by the server."""
        program = Path(sys.executable).with_name("twistd")
        command = [*self._starter, str(program), "-n", "--pidfile=", "proxyd-agent", *self._words]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd="/" if self._starter else self.folder,
                env=environment_for(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_us,
            )

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM; waits until it has ended."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the agent did not end:\n{self.log_text()}") from None

    def remove(self) -> None:
        """Remove its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_text(self) -> str:
        """All it wrote so far."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def wait_logged(self, text: str, seconds: float = 30.0) -> None:
        """
        Wait until it says this.

        @raise AssertionError: it does not; with its log
        """
        try:
            wait_until(lambda: text in self.log_text(), seconds, f"{text!r} in the agent's log")
        except DeadlinePassed as error:
            raise AssertionError(f"{error}:\n{self.log_text()}") from None

    def rss(self) -> int:
        """Its resident memory, in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the agent is gone")


class Place:
    """
    A server on loopback: each who comes has a thread.

    @param serve: is given the connection, which is closed behind it
    @param listener: where they come to; None: a new one
    @ivar port: where it listens
    """

    def __init__(
        self,
        serve: Callable[[socket.socket], None],
        host: str = "127.0.0.1",
        listener: socket.socket | None = None,
    ) -> None:
        self._serve = serve
        self._listener = listener or socket.create_server((host, 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take nobody any more."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # nobody listens any more
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                there, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(there,), daemon=True).start()

    def _one(self, there: socket.socket) -> None:
        with there:
            try:
                self._serve(there)
            except OSError:
                pass  # the other side is gone


def echo(there: socket.socket) -> None:
    """Say back what comes, up to the end."""
    while data := there.recv(65536):
        there.sendall(data)


def reset(there: socket.socket) -> None:
    """End at once, by a reset."""
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)


def pour(count: int) -> Callable[[socket.socket], None]:
    """Sends so many bytes, whoever reads them or not."""

    def serve(there: socket.socket) -> None:
        block = bytes(65536)
        for _ in range(count // len(block)):
            there.sendall(block)

    return serve


def answer_after_end(there: socket.socket) -> None:
    """Wait for the end of what comes, then say how much it was, and only then close."""
    count = 0
    while data := there.recv(65536):
        count += len(data)
    there.sendall(f"{count} bytes\n".encode())
