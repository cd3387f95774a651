"""
Reverse ports side by side: proxyd's, C{ssh -R}'s and websocket-tunnel's, all to one target.

All on loopback and without TLS where it can be; ssh encrypts always, by AES-GCM.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.programs import REPOSITORY, BenchFailed, Missing, Program, find_program
from bench.scene import Scene
from bench.sides import DIRECT, PROXYD_VARIABLES
from bench.ssh import Keys
from demo.ground import Account
from demo.probe import free_port
from proxyd.ctl.client import CallFailed, Client, Where

PROXYD = "proxyd"
SSH = "ssh -R"
TUNNEL = "websocket-tunnel"
PLAIN = "two plain relays"
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
def opened_doors(
    scene: Scene,
    module: str,
    *,
    tls: bool = False,
    direct: bool = False,
    plain: bool = False,
) -> Iterator[dict[str, Door]]:
    """
    All ways, until the block ends; what comes through each begins with a byte when asked for one.

    @param module: the target: a module that is given its port, and says something to whoever
        sends it eight bytes that are a C{1}
    @param tls: our agent comes by C{wss://}; then websocket-tunnel is not among them
    @param direct: the target's own port is among them
    @param plain: two relays of bytes are among them, which have no protocol
    @raise Missing: there is no OpenSSH
    """
    with ExitStack() as stack:
        ground = _Ground(scene, scene.make_folder("agents"), stack)
        ground.start("target", ground.target, sys.executable, "-m", module, str(ground.target))
        doors = {PROXYD: _ours(ground, tls), SSH: _ssh(ground)}
        if not tls:
            try:
                doors[TUNNEL] = _tunnel(ground, find_program("wtunnel"))
            except Missing:
                pass  # it is told by whoever fetches it
        if plain:
            doors[PLAIN] = _plain(ground)
        if direct:
            doors[DIRECT] = Door(ground.target, ground.programs[0], ground.programs[0])
        for side, door in doors.items():
            _wait_ready(side, door.port)
        yield doors


class _Ground:
    """
    Where the programs of all ways are started, and ended with the stack.

    @ivar target: the port to which all lead
    """

    def __init__(self, scene: Scene, folder: Path, stack: ExitStack) -> None:
        self.scene = scene
        self.folder = folder
        self.target = free_port()
        self.programs: list[Program] = []
        self._stack = stack
        kept = {key: value for key, value in os.environ.items() if key not in PROXYD_VARIABLES}
        self._here = kept | {"PYTHONPATH": str(REPOSITORY)}

    def start(
        self,
        name: str,
        port: int,
        *words: str | Path,
        account: Account | None = None,
        **variables: str,
    ) -> Program:
        """A program that listens on a port; 0: on none."""
        environment = self._here | variables
        program = Program(name, words, self.folder, account=account, environment=environment)
        self._stack.callback(program.stop)
        self.programs.append(program)
        if port:
            program.wait_listening(port)
        return program


def _ours(ground: _Ground, tls: bool) -> Door:
    folder, scene = ground.folder, ground.scene
    users, place = free_port(), free_port()
    port = {
        "client_id": "bench",
        "remote_host": "127.0.0.1",
        "remote_port": ground.target,
        "local_port": users,
    }
    agents: dict[str, object] = {"listen": [f"127.0.0.1:{place}"], "proxies": [port]}
    if tls:
        agents["tls"] = {"certificate": str(scene.certificate), "key": str(scene.key)}
    settings = {
        "state": f"sqlite:///{folder}/state.sqlite",
        "api": {"socket": str(folder / "api.sock")},
        "agents": agents,
    }
    config = folder / "proxyd.yaml"
    config.write_text(json.dumps(settings))
    twistd = Path(sys.executable).with_name("twistd")
    server = ground.start(PROXYD, place, twistd, "-n", "--pidfile=", "proxyd", "-c", config)
    token = _token(Client(Where(socket=str(folder / "api.sock")), {}))
    words: list[str | Path] = [twistd, "-n", "--pidfile=", "proxyd-agent"]
    words += ["--server", f"{'wss' if tls else 'ws'}://127.0.0.1:{place}/agent"]
    words += ["--allow", f"127.0.0.1:{ground.target}"]
    if tls:
        words += ["--pin", _pin_of(scene.certificate)]
    agent = ground.start("agent", 0, *words, PROXYD_AGENT_TOKEN=token)
    return Door(users, server, agent)


def _token(client: Client) -> str:
    """A token for our agent; the API may begin to listen a moment after agents may come."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            return str(client.post("/api/agents", {"client_id": "bench"})["token"])
        except CallFailed as failure:
            if time.monotonic() > deadline:
                raise BenchFailed(f"no token for an agent: {failure}") from failure
        time.sleep(0.05)


def _pin_of(certificate: Path) -> str:
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def _ssh(ground: _Ground) -> Door:
    scene = ground.scene
    keys, users, place = Keys(scene, ground.folder), free_port(), free_port()
    server = ground.start("sshd", place, *keys.sshd(place), account=scene.account)
    agent = ground.start("ssh", users, *keys.ssh_back(users, place, ground.target))
    return Door(users, server, agent)


def _tunnel(ground: _Ground, tunnel: Path) -> Door:
    folder, target = ground.folder, ground.target
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
    server = ground.start("wtunnel", place, tunnel, "server", "-c", folder / "server.toml")
    agent = ground.start("wtunnel-client", 0, tunnel, "client", "-c", folder / "client.toml")
    return Door(users, server, agent)


def _plain(ground: _Ground) -> Door:
    users, middle = free_port(), free_port()
    words = (sys.executable, "-m", "bench.plain_relay")
    agent = ground.start("far-relay", middle, *words, str(middle), str(ground.target))
    server = ground.start("near-relay", users, *words, str(users), str(middle))
    return Door(users, server, agent)


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
