"""
Reverse ports side by side: proxyd's, C{ssh -R}'s and websocket-tunnel's, all to one target.

All on loopback and without TLS where it can be; ssh encrypts always, by AES-GCM.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.programs import REPOSITORY, BenchFailed, Program, free_port
from bench.scene import Scene
from bench.sides import PROXYD_VARIABLES
from bench.ssh import Keys
from proxyd.ctl.client import Client, Where

PROXYD = "proxyd"
SSH = "ssh -R"
TUNNEL = "websocket-tunnel"
READY_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Door:
    """
    One way to the target.

    @param port: where users come
    @param server: the program that has this port
    @param agent: the one that dials the target
    """

    port: int
    server: Program
    agent: Program


@contextmanager
def opened_doors(scene: Scene, module: str) -> Iterator[dict[str, Door]]:
    """
    All ways, until the block ends; what comes through each begins with a byte when asked for one.

    @param module: the target: a module that is given its port, and says something to whoever
        sends it eight bytes that are a C{1}
    @raise Missing: there is no OpenSSH
    """
    with ExitStack() as stack:
        folder = scene.make_folder("agents")
        target = free_port()
        kept = {key: value for key, value in os.environ.items() if key not in PROXYD_VARIABLES}
        here = kept | {"PYTHONPATH": str(REPOSITORY)}

        def started(name: str, port: int, *words: str | Path, **more: object) -> Program:
            program = Program(name, words, folder, **more)  # type: ignore[arg-type]
            stack.callback(program.stop)
            if port:
                program.wait_listening(port)
            return program

        started("target", target, sys.executable, "-m", module, str(target), environment=here)
        doors: dict[str, Door] = {}

        twistd = Path(sys.executable).with_name("twistd")
        users, place = free_port(), free_port()
        port = {"client_id": "bench", "remote_host": "127.0.0.1", "remote_port": target}
        settings = {
            "state": f"sqlite:///{folder}/state.sqlite",
            "api": {"socket": str(folder / "api.sock")},
            "agents": {
                "listen": [f"127.0.0.1:{place}"],
                "proxies": [port | {"local_port": users}],
            },
        }
        config = folder / "proxyd.yaml"
        config.write_text(json.dumps(settings))
        daemon = (twistd, "-n", "--pidfile=", "proxyd", "-c", config)
        server = started(PROXYD, place, *daemon, environment=here)
        client = Client(Where(socket=str(folder / "api.sock")), {})
        token = client.post("/api/agents", {"client_id": "bench"})["token"]
        words: tuple[str | Path, ...] = (twistd, "-n", "--pidfile=", "proxyd-agent")
        words += ("--server", f"ws://127.0.0.1:{place}/agent", "--allow", f"127.0.0.1:{target}")
        agent = started("agent", 0, *words, environment=here | {"PROXYD_AGENT_TOKEN": token})
        doors[PROXYD] = Door(users, server, agent)

        keys, users, place = Keys(scene, folder), free_port(), free_port()
        server = started("sshd", place, *keys.sshd(place), account=scene.account)
        agent = started("ssh", users, *keys.ssh_back(users, place, target))
        doors[SSH] = Door(users, server, agent)

        tunnel = shutil.which("wtunnel")
        if tunnel is not None:
            users, place = free_port(), free_port()
            (folder / "server.toml").write_text(
                f'listen = "127.0.0.1:{place}"\ntoken = "bench"\n[[proxies]]\nname = "bench"\n'
                f'listen = "127.0.0.1:{users}"\nlisten_side = "local"\n'
                f'backend = "127.0.0.1:{target}"\nbackend_side = "peer"\n'
            )
            (folder / "client.toml").write_text(
                f'server = "127.0.0.1:{place}"\ntoken = "bench"\n'
                f'allow_peer_backends = ["127.0.0.1:{target}"]\n'
            )
            server = started("wtunnel", place, tunnel, "server", "-c", folder / "server.toml")
            agent = started("wtunnel-client", 0, tunnel, "client", "-c", folder / "client.toml")
            doors[TUNNEL] = Door(users, server, agent)
        for side, door in doors.items():
            _wait_ready(side, door.port)
        yield doors


def user_of(port: int, size: int) -> socket.socket:
    """Somebody who comes to a port and says how many bytes he wants."""
    user = socket.create_connection(("127.0.0.1", port), READY_SECONDS)
    user.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    user.sendall(size.to_bytes(8, "big", signed=True))
    return user


def _wait_ready(side: str, port: int) -> None:
    """Wait until bytes come through."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with user_of(port, 1) as user:
                user.settimeout(5)
                if user.recv(1):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise BenchFailed(f"nothing comes through {side}")
