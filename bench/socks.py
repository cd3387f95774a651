"""
SOCKS5 beside microsocks and Dante: connections a second, and bytes a second.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.programs import (
    REPOSITORY,
    BenchFailed,
    Missing,
    Program,
    find_program,
    settle,
)
from bench.rounds import Result, compare, interleave
from bench.scene import Scene
from bench.sides import PROXYD, PROXYD_VARIABLES
from demo.probe import free_port

MICROSOCKS, DANTE = "microsocks", "dante"
LAST = 3
"""The step of a connection that waits for its end, behind the byte that came back."""

CLIENTS = 16
BULK_BYTES = 500_000_000
HOST = "127.0.0.1"

_GREETING = b"\5\1\0"


@dataclass(frozen=True, slots=True)
class Run:
    """
    One measurement.

    @param rate: connections, or megabytes, a second
    @param cpu: CPU of the server for each of them, in microseconds; 0: it can't be told
    """

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True)
class SocksSide:
    """A server under measurement."""

    port: int
    program: Program


def socks_case(
    name: str, unit: str, measure: Callable[[SocksSide, int], Run]
) -> Callable[[Scene], list[Result]]:
    """
    What measures a name against each peer there is.

    @param measure: takes a side, and the port of the target
    """

    def run(scene: Scene) -> list[Result]:
        settle()
        with ExitStack() as stack:
            target = stack.enter_context(_target(scene))
            sides = {PROXYD: stack.enter_context(_running(scene, PROXYD, _proxyd))}
            for peer, start in ((MICROSOCKS, _microsocks), (DANTE, _dante)):
                try:
                    sides[peer] = stack.enter_context(_running(scene, peer, start))
                except Missing:
                    continue
            if len(sides) == 1:
                raise Missing(f"{MICROSOCKS} and {DANTE}")
            for side in sides.values():
                measure(side, target)
            runs = interleave(
                tuple(sides),
                lambda side: measure(sides[side], target),
                scene.settings.rounds,
                scene.is_late,
            )
        return [
            compare(
                name,
                unit,
                peer,
                runs.pick(PROXYD, lambda one: one.rate),
                runs.pick(peer, lambda one: one.rate),
                more={"cpu_us_ours": round(runs.middle(PROXYD, lambda one: one.cpu), 1),
                      "cpu_us_theirs": round(runs.middle(peer, lambda one: one.cpu), 1)},
            )
            for peer in sides
            if peer != PROXYD
        ]  # fmt: skip

    return run


def connects(seconds: float) -> Callable[[SocksSide, int], Run]:
    """Connections a second: greeting, request, one byte there and back, close."""

    def measure(side: SocksSide, target: int) -> Run:
        before, began = _cpu(side), time.monotonic()
        try:
            made = _connect_for(side.port, target, seconds)
        except BenchFailed as failure:
            raise BenchFailed(f"{side.program.name} {failure}") from None
        took = time.monotonic() - began
        return Run(made / took, (_cpu(side) - before) / max(1, made) * 1e6)

    return measure


def bulk(side: SocksSide, target: int) -> Run:
    """Megabytes a second of one long download."""
    request = _GREETING + _request(target)
    with socket.create_connection((HOST, side.port)) as sock:
        # Not in one write: a server that can't take that would not be measured at all.
        sock.sendall(_GREETING)
        _take(sock, 2)
        sock.sendall(request[3:])
        if _take(sock, 10)[1:2] != b"\0":
            raise BenchFailed("a SOCKS5 server refused the target")
        before, began = _cpu(side), time.monotonic()
        sock.sendall(b"D" + BULK_BYTES.to_bytes(8, "big"))
        got, buffer = 0, bytearray(1 << 20)
        while got < BULK_BYTES:
            count = sock.recv_into(buffer)
            if not count:
                raise BenchFailed(f"a download ended at {got} bytes")
            got += count
        took = time.monotonic() - began
        return Run(got / took / 1e6, (_cpu(side) - before) / (got / 1e6) * 1e6)


def _cpu(side: SocksSide) -> float:
    """
    CPU that a server has used, threads and children that have ended among it, in seconds.

    From C{/proc/PID/stat} (proc(5), fields 14 to 17), in the system's ticks.
    """
    total = 0
    for pid in _family(side.program.pid):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(fields[place]) for place in (11, 12, 13, 14))
    return total / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _request(target: int) -> bytes:
    return b"\5\1\0\1" + socket.inet_aton(HOST) + target.to_bytes(2, "big")


def _take(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def _connect_for(port: int, target: int, seconds: float) -> int:
    """
    Connect again and again, with so many under way at a time; how many were made.

    The target closes first: who closes first remembers the connection for a minute, and with it
    the port from which it was made, where that is a client or the server under measurement.
    """
    steps = (_GREETING, _request(target), b"x")
    poll = select.epoll()
    open_: dict[int, tuple[socket.socket, int]] = {}
    made, end = 0, time.monotonic() + seconds

    def start() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex((HOST, port))
        open_[sock.fileno()] = (sock, -1)
        poll.register(sock.fileno(), select.EPOLLOUT)

    for _ in range(CLIENTS):
        start()
    while time.monotonic() < end:
        for fd, _ in poll.poll(1.0):
            sock, step = open_[fd]
            if step >= 0:
                data = sock.recv(4096)
                if step == LAST and not data:
                    poll.unregister(fd)
                    sock.close()
                    del open_[fd]
                    made += 1
                    start()
                    continue
                if not data or (step == 1 and data[1]):
                    how = f"answered {data[1]}" if data else "closed a connection"
                    raise BenchFailed(f"{how} after {made} connections")
            if step < 0:
                poll.modify(fd, select.EPOLLIN)
            if step < LAST - 1:
                sock.send(steps[step + 1])
            open_[fd] = (sock, step + 1)
    for sock, _ in open_.values():
        sock.close()
    poll.close()
    return made


@contextmanager
def _target(scene: Scene) -> Iterator[int]:
    """The port of a running target."""
    port = free_port()
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "bench.socks_target", str(port)]
    program = Program("target", command, scene.make_folder("target"), environment=variables)
    try:
        program.wait_listening(port)
        yield port
    finally:
        program.stop()


@contextmanager
def _running(scene: Scene, name: str, start: Callable[[Path, int], Program]) -> Iterator[SocksSide]:
    """One server; it is ended when the block is left."""
    port = free_port()
    program = start(scene.make_folder(name), port)
    try:
        program.wait_listening(port)
        yield SocksSide(port, program)
    finally:
        program.stop()


def _proxyd(folder: Path, port: int) -> Program:
    config = {
        "socks5": {"listen": f"{HOST}:{port}"},
        "routes": [{"match": "127.0.0.0/8", "upstream": "direct"}],
    }
    path = folder / "proxyd.yaml"
    path.write_text(json.dumps(config))
    twistd = Path(sys.executable).with_name("twistd")
    if not twistd.exists():
        raise Missing(f"twistd (not beside {sys.executable})")
    variables = {key: value for key, value in os.environ.items() if key not in PROXYD_VARIABLES}
    variables["PYTHONPATH"] = str(REPOSITORY)
    command: list[str | Path] = [twistd, "-n", "--pidfile=", "proxyd", "-c", path]
    return Program(PROXYD, command, folder, environment=variables)


def _microsocks(folder: Path, port: int) -> Program:
    return Program(MICROSOCKS, [find_program("microsocks"), "-i", HOST, "-p", str(port)], folder)


def _dante(folder: Path, port: int) -> Program:
    path = folder / "danted.conf"
    user = "root" if os.getuid() == 0 else str(os.getuid())
    path.write_text(
        f"logoutput: {folder}/log\ninternal: {HOST} port = {port}\nexternal: lo\n"
        f"clientmethod: none\nsocksmethod: none\nuser.privileged: {user}\n"
        f"user.unprivileged: {user}\n"
        "client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
        "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
    )
    return Program(DANTE, [find_program("danted"), "-f", path], folder)
