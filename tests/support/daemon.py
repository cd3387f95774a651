"""
proxyd as a person runs it: C{twistd -n proxyd -c FILE}, a process to look at from outside.

How a start that fails looks is in L{run_daemon}, one that succeeds is a
L{Daemon}. Nothing of proxyd is imported.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.support.deadlines import Deadline, DeadlinePassed, wait_until
from tests.support.wireclient import WireClient

REPOSITORY = Path(__file__).resolve().parents[2]
PORT = "@PORT@"
START_SECONDS = 90.0
STOP_SECONDS = 90.0
PORT_TRIES = 5
PORT_TAKEN = re.compile("[Aa]ddress already in use|port .*(taken|in use)")
# What proxyd reads from its environment; nothing of the caller's is to be tested.
VARIABLES = frozenset(
    [
        "CREDENTIALS_DIRECTORY",
        "DB_HOST",
        "GPRXY_PASS",
        "GPRXY_USER",
        "JWT_SECRET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "PROXY_HOST",
        "PROXY_POOL_SIZE",
        "PROXY_PORT",
        "RUNTIME_DIRECTORY",
        "STATE_DIRECTORY",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "XDG_CONFIG_HOME",
    ]
)


@dataclass(frozen=True, slots=True)
class Ended:
    """
    A process that has ended.

    @param code: its exit code; -N where signal N ended it
    """

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What a person is told of the failure: the lines of stderr."""
        return self.err.splitlines()


class Daemon:
    """
    A running proxyd, stopped by the C{with} statement or L{stop}.

    @param configuration: its file's text, in which C{@PORT@} stands for a free
        port on 127.0.0.1; see L{port}
    @param variables: more of its environment
    @param name: of its configuration file
    """

    host = "127.0.0.1"

    def __init__(
        self,
        configuration: str,
        *,
        variables: Mapping[str, str] | None = None,
        name: str = "proxyd.yaml",
    ) -> None:
        self.port = 0
        self.told: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="proxyd-test-"))
        self.file = self.folder / name
        self._configuration = configuration
        self._variables = dict(variables or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._notify: socket.socket | None = None

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            self.remove()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    # -- life

    def start(self) -> None:
        """
        Start, and wait until it says that it is ready (sd_notify).

        @raise AssertionError: it ends instead, or says nothing; with its log
        """
        for left in reversed(range(PORT_TRIES)):
            self.port = free_port()
            self.write(self._configuration)
            self._begin()
            try:
                self.wait_told("READY=1", START_SECONDS)
            except (DeadlinePassed, AssertionError):
                taken = PORT_TAKEN.search(self.log_text())
                self._kill()
                if not taken or not left:
                    raise AssertionError(f"proxyd did not start:\n{self.log_text()}") from None
            else:
                return

    def _begin(self) -> None:
        address = str(self.folder / "notify")
        Path(address).unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(address)
        self.told.clear()
        environment = environment_for(self.folder)
        environment |= {"NOTIFY_SOCKET": address} | self._variables
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                twistd("-c", str(self.file)),
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_us,
            )

    def write(self, configuration: str) -> None:
        """Replace the configuration file's text; read at the next start or reload."""
        self._configuration = configuration
        self.file.write_text(configuration.replace(PORT, str(self.port)))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._running().send_signal(number)

    def reload(self) -> None:
        """SIGHUP; waits until it says that it is ready again."""
        seen = len(self.told)
        self.signal(signal.SIGHUP)
        self.wait_told("READY=1", START_SECONDS, seen)

    def wait_told(self, what: str, seconds: float, skip: int = 0) -> None:
        """
        Wait until it tells its service manager this line.

        @param skip: how many of the L{told} lines don't count
        @raise AssertionError: it ends instead
        @raise DeadlinePassed: it does not say so in time
        """
        assert self._notify is not None
        deadline = Deadline(seconds, f"{what} from proxyd")
        while what not in self.told[skip:]:
            self._notify.settimeout(min(0.1, deadline.left()))
            try:
                self.told += self._notify.recv(65536).decode().splitlines()
            except TimeoutError:
                if self._running().poll() is not None:
                    raise AssertionError(f"proxyd ended:\n{self.log_text()}") from None

    def wait_ended(self, seconds: float = STOP_SECONDS) -> int:
        """
        Wait until the process has ended; gives its exit code, -N for signal N.

        @raise AssertionError: it runs on; with its log
        """
        try:
            return self._running().wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"proxyd did not end:\n{self.log_text()}") from None

    def stop(self) -> None:
        """
        SIGTERM and, while sessions are open, a second one; does nothing where it has ended.

        @raise AssertionError: it does not end
        """
        process = self._process
        if process is None:
            return
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                if self._sockets(self.port):
                    process.send_signal(signal.SIGTERM)
                self.wait_ended()
        finally:
            self._kill()

    def remove(self) -> None:
        """Remove its folder, and with it the log."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.kill()
            process.wait()
        if self._notify is not None:
            self._notify.close()
            self._notify = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise AssertionError("proxyd was not started")
        return self._process

    # -- clients

    def client(self, *, seconds: float = 60.0, tls: bool = False) -> WireClient:
        """A new connection to it, nothing said yet but for TLS."""
        client = WireClient(self.host, self.port, seconds=seconds)
        if tls:
            client.start_tls()
        return client

    def session(
        self, user: str, database: str, password: str = "", *, tls: bool = False, **settings: str
    ) -> WireClient:
        """
        A client that has logged in.

        @raise ServerError: refused
        """
        client = self.client(tls=tls)
        try:
            client.login(user, database, password, **settings)
        except BaseException:
            client.close()
            raise
        return client

    # -- looked at from outside

    def log_text(self) -> str:
        """All it wrote to its log so far."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def wait_logged(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        """
        Wait until its log has a match for this pattern.

        @raise DeadlinePassed: it has none in time
        """
        wait_until(
            lambda: re.search(pattern, self.log_text()), seconds, f"{pattern!r} in proxyd's log"
        )
        match = re.search(pattern, self.log_text())
        assert match is not None
        return match

    def rss(self) -> int:
        """Its resident memory, in bytes."""
        return self._memory("VmRSS")

    def highest_rss(self) -> int:
        """The most resident memory since L{forget_highest_rss}, in bytes."""
        return self._memory("VmHWM")

    def forget_highest_rss(self) -> None:
        """Let L{highest_rss} begin anew (proc(5), C{clear_refs})."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """CPU time it has used, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def children(self) -> list[int]:
        """Process ids of its children."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def client_sockets(self) -> int:
        """How many TCP connections of clients it holds."""
        return self._sockets(self.port)

    def wait_no_clients(self, seconds: float = 60.0) -> None:
        """
        Wait until it holds no client's connection any more.

        @raise DeadlinePassed: it still does; a leak, as a rule
        """
        wait_until(lambda: not self.client_sockets(), seconds, "proxyd to close all clients")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"{name}:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) * 1024

    def _sockets(self, port: int) -> int:
        """Descriptors of its that are TCP connections with this local port (proc(5))."""
        ours = 0
        held = socket_inodes(self.pid)
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            listening = fields[3] == "0A"
            if int(fields[1][-4:], 16) == port and not listening and fields[9] in held:
                ours += 1
        return ours


def _end_with_us() -> None:
    """In the child: have it stopped when we are killed (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def socket_inodes(pid: int) -> set[str]:
    """The inodes of the sockets that a process holds."""
    inodes = set()
    folder = f"/proc/{pid}/fd"
    for entry in os.listdir(folder):
        try:
            name = os.readlink(f"{folder}/{entry}")
        except FileNotFoundError:
            continue  # closed while we looked
        if name.startswith("socket:["):
            inodes.add(name[8:-1])
    return inodes


def run_daemon(
    *options: str,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    seconds: float = START_SECONDS,
) -> Ended:
    """
    Run C{twistd -n proxyd} in a folder up to its end, for starts that must fail.

    @raise AssertionError: it runs on, which means that it has started
    """
    environment = environment_for(folder) | dict(variables or {})
    process = subprocess.Popen(
        twistd(*options),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"proxyd did not end:\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)


def twistd(*options: str) -> list[str]:
    """The command line of the daemon in the foreground."""
    program = Path(sys.executable).with_name("twistd")
    if not program.exists():
        raise AssertionError(f"no twistd beside {sys.executable}")
    return [str(program), "-n", "--pidfile=", "proxyd", *options]


def environment_for(folder: Path) -> dict[str, str]:
    """Our environment without what proxyd would read from it, and with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return kept | {"HOME": str(folder), "PYTHONPATH": str(REPOSITORY)}


def free_port() -> int:
    """A port on 127.0.0.1 that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
