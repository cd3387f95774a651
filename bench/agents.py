"""
C{agent.bulk} and C{agent.rtt}: a reverse port of proxyd beside C{ssh -R} and websocket-tunnel.

Each leads, on loopback and without TLS where it can, to the same target. ssh encrypts
always, by AES-GCM.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.programs import REPOSITORY, BenchFailed, Program, free_port
from bench.rounds import Result, compare, interleave, percentile
from bench.scene import Scene
from bench.sides import PROXYD_VARIABLES
from bench.ssh import Keys
from bench.stream import take
from proxyd.ctl.client import Client, Where

PROXYD = "proxyd"
SSH = "ssh -R"
TUNNEL = "websocket-tunnel"
STREAMS = 8
PINGS = 20
READY_SECONDS = 20.0


def bulk(scene: Scene) -> list[Result]:
    """
    Megabytes a second from the target to users: one stream, and eight together.

    @raise Missing: there is no OpenSSH
    """
    size = scene.settings.copy_bytes
    results = []
    with _opened(scene) as doors:
        for name, streams in (("agent.bulk", 1), ("agent.bulk_8", STREAMS)):
            runs = interleave(
                tuple(doors),
                lambda side, count=streams: _rate(doors[side], size, count),  # type: ignore[misc]
                scene.settings.rounds,
                scene.is_late,
            )
            for peer in doors:
                if peer != PROXYD:
                    ours, theirs = (runs.pick(one, float) for one in (PROXYD, peer))
                    results.append(compare(name, "MB/s", peer, ours, theirs))
    return results


def round_trip(scene: Scene) -> list[Result]:
    """
    The 99th percentile of a ping-pong, in milliseconds, while another stream is saturated.

    @raise Missing: there is no OpenSSH
    """
    with _opened(scene) as doors:
        idle = {side: percentile(_pings(door), 0.99) for side, door in doors.items()}
        runs = interleave(
            tuple(doors),
            lambda side: _pings_beside_bulk(doors[side]),
            scene.settings.rounds,
            scene.is_late,
        )
    results = []
    for peer in doors:
        if peer != PROXYD:
            ours, theirs = (
                runs.pick(one, lambda run: percentile(run, 0.99)) for one in (PROXYD, peer)
            )
            more = {
                "p50_ours": round(runs.middle(PROXYD, lambda run: percentile(run, 0.5)), 3),
                "p50_theirs": round(runs.middle(peer, lambda run: percentile(run, 0.5)), 3),
                "idle_p99_ours": round(idle[PROXYD], 3),
                "idle_p99_theirs": round(idle[peer], 3),
            }
            results.append(
                compare("agent.rtt", "ms", peer, ours, theirs, less_is_better=True, more=more)
            )
    return results


def _user(door: int, size: int) -> socket.socket:
    user = socket.create_connection(("127.0.0.1", door), READY_SECONDS)
    user.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    user.sendall(size.to_bytes(8, "big", signed=True))
    return user


def _rate(door: int, size: int, streams: int) -> float:
    """Megabytes a second of all streams together."""
    problems: list[Exception] = []

    def one() -> None:
        try:
            with _user(door, size // streams) as user:
                take(user, size // streams)
        except (OSError, BenchFailed) as error:
            problems.append(error)

    threads = [threading.Thread(target=one) for _ in range(streams)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise BenchFailed(f"a stream broke: {problems[0]}")
    return size / 1e6 / (time.perf_counter() - began)


def _pings(door: int) -> list[float]:
    """How long a byte there and a byte back took, in milliseconds."""
    taken = []
    for _ in range(PINGS):
        with _user(door, -1) as user:
            time.sleep(0.002)  # so that the connection is through before the byte goes
            began = time.perf_counter()
            user.sendall(b"p")
            if user.recv(1) != b"k":
                raise BenchFailed("no answer")
            taken.append((time.perf_counter() - began) * 1000)
    return taken


def _pings_beside_bulk(door: int) -> list[float]:
    """The same while another user downloads as fast as it can."""
    with _user(door, 1 << 40) as busy:
        stop = threading.Event()

        def drain() -> None:
            while not stop.is_set() and busy.recv(1 << 20):
                pass

        reader = threading.Thread(target=drain)
        reader.start()
        try:
            return _pings(door)
        finally:
            stop.set()
            reader.join()


@contextmanager
def _opened(scene: Scene) -> Iterator[dict[str, int]]:
    """The ports of all sides, until the block ends."""
    with ExitStack() as stack:
        folder = scene.make_folder("agents")
        target = free_port()
        kept = {key: value for key, value in os.environ.items() if key not in PROXYD_VARIABLES}
        here = kept | {"PYTHONPATH": str(REPOSITORY)}

        def started(name: str, port: int, *words: str | Path, **more: object) -> None:
            program = Program(name, words, folder, **more)  # type: ignore[arg-type]
            stack.callback(program.stop)
            if port:
                program.wait_listening(port)

        source = (sys.executable, "-m", "bench.stream", str(target))
        started("target", target, *source, environment=here)
        doors = {PROXYD: free_port(), SSH: free_port()}

        twistd = Path(sys.executable).with_name("twistd")
        place = free_port()
        port = {"client_id": "bench", "remote_host": "127.0.0.1", "remote_port": target}
        settings = {
            "state": f"sqlite:///{folder}/state.sqlite",
            "api": {"socket": str(folder / "api.sock")},
            "agents": {
                "listen": [f"127.0.0.1:{place}"],
                "proxies": [port | {"local_port": doors[PROXYD]}],
            },
        }
        config = folder / "proxyd.yaml"
        config.write_text(json.dumps(settings))
        daemon = (twistd, "-n", "--pidfile=", "proxyd", "-c", config)
        started(PROXYD, place, *daemon, environment=here)
        client = Client(Where(socket=str(folder / "api.sock")), {})
        token = client.post("/api/agents", {"client_id": "bench"})["token"]
        agent: tuple[str | Path, ...] = (twistd, "-n", "--pidfile=", "proxyd-agent")
        agent += ("--server", f"ws://127.0.0.1:{place}/agent", "--allow", f"127.0.0.1:{target}")
        started("agent", 0, *agent, environment=here | {"PROXYD_AGENT_TOKEN": token})

        keys, server = Keys(scene, folder), free_port()
        started("sshd", server, *keys.sshd(server), account=scene.account)
        started("ssh", doors[SSH], *keys.ssh_back(doors[SSH], server, target))

        tunnel = shutil.which("wtunnel")
        if tunnel is not None:
            doors[TUNNEL], middle = free_port(), free_port()
            (folder / "server.toml").write_text(
                f'listen = "127.0.0.1:{middle}"\ntoken = "bench"\n[[proxies]]\nname = "bench"\n'
                f'listen = "127.0.0.1:{doors[TUNNEL]}"\nlisten_side = "local"\n'
                f'backend = "127.0.0.1:{target}"\nbackend_side = "peer"\n'
            )
            (folder / "client.toml").write_text(
                f'server = "127.0.0.1:{middle}"\ntoken = "bench"\n'
                f'allow_peer_backends = ["127.0.0.1:{target}"]\n'
            )
            started("wtunnel", middle, tunnel, "server", "-c", folder / "server.toml")
            started("wtunnel-client", 0, tunnel, "client", "-c", folder / "client.toml")
        for side, door in doors.items():
            _wait_ready(side, door)
        yield doors


def _wait_ready(side: str, door: int) -> None:
    """Wait until bytes come through."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with _user(door, 1) as user:
                user.settimeout(5)
                if user.recv(1):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise BenchFailed(f"nothing comes through {side}")
