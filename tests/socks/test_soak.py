"""
Much of everything: thousands of connections, and clients that stop reading.

C{PROXYD_SOAK=1} runs the long forms, and prints the table of behaviours beside
what Dante and microsocks do.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from proxyd.net.line import CHUNK
from tests.net.peers import PATIENCE, fill, until
from tests.socks.behaviours import TABLE, Place
from tests.socks.scene import SocksCase, Targets, connect, free_port, take, threaded, through

SOAK = bool(os.environ.get("PROXYD_SOAK"))
CONNECTIONS = 10_000 if SOAK else 500
AT_ONCE = 50
STALLED = 64 << 20 if SOAK else 8 << 20


def resident() -> int:
    """This process's memory, in bytes (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class ManyTests(SocksCase):
    """Opened, used, closed; and then it is as if they had not been."""

    timeout = 600

    async def test_open_and_close(self) -> None:
        """Thousands of connections, of which none is left, nor its memory."""
        port = self.listen()
        (listener,) = self.listeners

        def run(count: int) -> None:
            for _ in range(0, count, AT_ONCE):
                socks = [through(port, "127.0.0.1", self.targets.port)[0] for _ in range(AT_ONCE)]
                for sock in socks:
                    sock.sendall(b"Ex")
                for sock in socks:
                    self.assertEqual(take(sock, 1), b"x")
                    sock.close()

        await threaded(run, AT_ONCE * 2)
        await until(lambda: not list(listener.sessions), "a warm start")
        gc.collect()
        before, descriptors = resident(), len(os.listdir("/proc/self/fd"))
        await threaded(run, CONNECTIONS)
        await until(lambda: not list(listener.sessions), "none left")
        await until(lambda: not self.link.ends, "no End left")
        self.assertEqual((listener.opened, listener.failed), (CONNECTIONS + AT_ONCE * 2, 0))
        gc.collect()
        # The targets of the test keep a thread and a socket for each until they have seen its end.
        await until(
            lambda: len(os.listdir("/proc/self/fd")) <= descriptors + AT_ONCE * 4, "the descriptors"
        )
        grown = resident() - before
        self.assertLess(grown, 24 << 20, "memory that was not given back")
        if SOAK:
            sys.stderr.write(
                f"\n{CONNECTIONS} connections: {grown / 1024:.0f} KiB more than before\n"
            )

    async def test_a_client_that_stops_reading(self) -> None:
        """It holds one chunk at most here, its target waits, and others don't."""
        port = self.listen()
        stalled, code = await threaded(through, port, "127.0.0.1", self.targets.port)
        self.assertEqual(code, 0)
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        (session,) = self.listeners[0].sessions
        stalled.sendall(b"D" + STALLED.to_bytes(4, "big"))
        await until(lambda: session.end.pending, "a full client")
        before = resident()

        def others() -> None:
            for _ in range(20):
                sock, code = through(port, "127.0.0.1", self.targets.port)
                with sock:
                    self.assertEqual(code, 0)
                    sock.sendall(b"D" + (1 << 20).to_bytes(4, "big"))
                    self.assertEqual(len(take(sock, 1 << 20)), 1 << 20)

        await threaded(others)
        assert session.target is not None
        self.assertLessEqual(session.end.pending + session.target.pending, CHUNK)
        self.assertLess(resident() - before, 16 << 20)
        got = await threaded(take, stalled, STALLED)
        self.assertEqual(len(got), STALLED)
        stalled.close()

    async def test_a_target_that_stops_reading(self) -> None:
        """The same the other way."""
        port = self.listen()
        sock, _ = await threaded(through, port, "127.0.0.1", self.targets.port)
        sock.sendall(b"S")
        sent, quiet = 0, 0
        while quiet < 20:
            taken = fill(sock, bytes(65536))
            sent, quiet = sent + taken, 0 if taken else quiet + 1
            await deferToThread(lambda: None)
        (session,) = self.listeners[0].sessions
        assert session.target is not None
        self.assertLessEqual(session.target.pending, CHUNK)
        sock.close()
        self.targets.close()
        session.kill("enough")


class BesideTests(SocksCase):
    """The table of behaviours, of ours and of others in the same run."""

    timeout = 600

    async def test_beside_others(self) -> None:
        """Printed for people; what ours must do is tested one by one elsewhere."""
        if not SOAK:
            raise SkipTest("PROXYD_SOAK is not set")
        six = Targets("::1")
        self.closing.append(six.close)
        places = {
            "proxyd": Place(
                self.listen(auth_timeout=2.0),
                self.listen(accounts=[("ann", "secret")]),
                self.targets,
                six,
                free_port(),
                10.0,
            )
        }
        for name, start in (("microsocks", microsocks), ("dante", dante)):
            try:
                port, login = (self.peer(start, with_login) for with_login in (False, True))
            except FileNotFoundError:
                sys.stderr.write(f"\n{name} is not on this machine\n")
                continue
            places[name] = Place(port, login, self.targets, six, free_port(), 10.0)
        lines = [f"{'behaviour':20} {'wanted':8} " + " ".join(f"{one:12}" for one in places)]
        for check, wanted in TABLE:
            seen = []
            for place in places.values():
                try:
                    seen.append(await threaded(check, place))
                except (OSError, IndexError, AssertionError, ValueError) as error:
                    seen.append(type(error).__name__)
            lines.append(f"{check.__name__:20} {wanted:8} " + " ".join(f"{one:12}" for one in seen))
            self.assertEqual(seen[0], wanted, check.__name__)
        sys.stderr.write("\n" + "\n".join(lines) + "\n")

    def peer(self, start: object, with_login: bool) -> int:
        """Another server, running until the test ends; its port."""
        port = free_port()
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        command = start(folder, port, with_login)  # type: ignore[operator]
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            start_new_session=True,
        )

        def end_it() -> None:
            """It and its children: Dante has two dozen."""
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

        self.closing.append(end_it)
        end = self.clock.seconds() + PATIENCE
        while self.clock.seconds() < end:
            try:
                connect(port).close()
            except OSError:
                continue
            return port
        raise AssertionError(f"{command[0]} does not listen")


def _found(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        raise FileNotFoundError(name)
    return path


def microsocks(folder: Path, port: int, with_login: bool) -> list[str]:
    """The command that starts microsocks."""
    login = ["-u", "ann", "-P", "secret"] if with_login else []
    return [_found("microsocks"), "-i", "127.0.0.1", "-p", str(port), *login]


def dante(folder: Path, port: int, with_login: bool) -> list[str]:
    """The command that starts Dante; its users would have to be the system's."""
    method = "username" if with_login else "none"
    file = folder / "danted.conf"
    file.write_text(
        f"logoutput: {folder}/log\ninternal: 127.0.0.1 port = {port}\nexternal: lo\n"
        f"clientmethod: none\nsocksmethod: {method}\nuser.privileged: root\n"
        "user.unprivileged: root\n"
        "client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
        "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
    )
    return [_found("danted"), "-f", str(file)]
