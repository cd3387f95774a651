"""
The sides of a comparison: proxyd, pgbouncer and the direct way, set up alike.

Both proxies pool by session, hold as many server connections, reset a server
by DISCARD ALL when a client leaves it, reach the server over TCP without TLS as
the same user, and log as they do by default. What differs is the program.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path

from bench.database import NAME
from bench.peers import reachable
from bench.place import Place
from bench.programs import REPOSITORY, TRIES, BenchFailed, Missing, Program
from bench.scene import Scene
from demo.probe import free_port

POOL_SIZE = 40
MAX_CLIENTS = 8000
PROXYD = "proxyd"
PGBOUNCER = "pgbouncer"
DIRECT = "direct"
# What proxyd reads from the environment: nothing of the caller's is to be measured.
PROXYD_VARIABLES = frozenset(
    [
        "DB_HOST",
        "GPRXY_USER",
        "GPRXY_PASS",
        "JWT_SECRET",
        "PROXY_HOST",
        "PROXY_POOL_SIZE",
        "PROXY_PORT",
        "NOTIFY_SOCKET",
        "STATE_DIRECTORY",
        "RUNTIME_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
    ]
)


@unique
class Login(Enum):
    """How clients log in: without a proof, or with the password they have on the server."""

    TRUST = "trust"
    PASSWORD = "password"


@dataclass(frozen=True, slots=True)
class Side:
    """
    One side, ready for clients.

    @param place: where its clients go
    @param program: what runs between; None for the direct way
    @param version: what the program calls itself; empty when it is proxyd or nothing
    """

    name: str
    place: Place
    program: Program | None
    version: str = ""

    def cpu_seconds(self) -> float:
        """CPU time the program has used so far, in seconds; nought for the direct way."""
        return 0.0 if self.program is None else self.program.cpu_seconds()


@contextmanager
def opened_sides(
    scene: Scene, login: Login, *, tls: bool = False, direct: bool = True
) -> Iterator[dict[str, Side]]:
    """
    Fresh programs, by the names of their sides: ours, the peer, and perhaps the direct way.

    A missing pgbouncer leaves its side out.

    @raise BenchFailed: a program does not start
    """
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        ours = _pgbouncer if scene.settings.noise else _proxyd
        sides[PROXYD] = stack.enter_context(_running(scene, PROXYD, ours, login, tls=tls))
        if scene.pgbouncer is not None:
            peer = _running(scene, PGBOUNCER, _pgbouncer, login, tls=tls)
            sides[PGBOUNCER] = stack.enter_context(peer)
        if direct and not tls:
            database = scene.database
            user = database.service if login is Login.TRUST else database.client
            sides[DIRECT] = Side(DIRECT, database.place(user), None)
        yield sides


Starter = Callable[[Scene, Path, int, Login, bool], tuple[Program, str]]


@contextmanager
def _running(scene: Scene, name: str, start: Starter, login: Login, *, tls: bool) -> Iterator[Side]:
    """One side's program, accepting clients; it is ended when the block is left."""
    with ExitStack() as stack:
        for attempt in range(TRIES):
            folder = scene.make_folder(name)
            port = free_port()
            program, version = start(scene, folder, port, login, tls)
            stack.callback(program.stop)
            try:
                program.wait_listening(port)
            except BenchFailed:
                # Someone may have taken the port since we asked for a free one.
                if attempt == TRIES - 1:
                    raise
            else:
                place = Place(port, NAME, scene.database.client, tls)
                yield Side(name, place, program, version)
                return


def _proxyd(scene: Scene, folder: Path, port: int, login: Login, tls: bool) -> tuple[Program, str]:
    """Start proxyd by C{twistd}, as a person would."""
    return start_proxyd(scene, folder, port, login, tls=tls), ""


def start_proxyd(
    scene: Scene,
    folder: Path,
    port: int,
    login: Login,
    *,
    tls: bool = False,
    twistd_options: Sequence[str] = (),
) -> Program:
    """
    Start proxyd in a folder with a configuration for this scene.

    @param twistd_options: further options of C{twistd} itself
    @raise Missing: C{twistd} is not beside this Python
    """
    database = scene.database
    password = folder / "service_password"
    password.write_text(database.service.password)
    password.chmod(0o600)
    service = f"{database.service.name}@127.0.0.1:{database.port}"
    postgres: dict[str, object] = {"listen": [f"127.0.0.1:{port}"], "max_clients": MAX_CLIENTS}
    if tls:
        postgres["tls"] = {"certificate": str(scene.certificate), "key": str(scene.key)}
    config = {
        "postgres": postgres,
        "connections": {
            NAME: {
                "dsn": f"postgresql://{service}/{NAME}?sslmode=disable",
                "password": f"file:{password}",
                "auth": "trust" if login is Login.TRUST else "backend",
                "pool_mode": "session",
                "max_open_connections": POOL_SIZE,
            }
        },
    }
    path = folder / "proxyd.yaml"
    path.write_text(json.dumps(config, indent=1))
    twistd = Path(sys.executable).with_name("twistd")
    if not twistd.exists():
        raise Missing(f"twistd (not beside {sys.executable})")
    variables = {key: value for key, value in os.environ.items() if key not in PROXYD_VARIABLES}
    variables["PYTHONPATH"] = str(REPOSITORY)
    argv: list[str | Path] = [twistd, *twistd_options, "-n", "--pidfile=", "proxyd", "-c", path]
    return Program(PROXYD, argv, folder, environment=variables)


def _pgbouncer(
    scene: Scene, folder: Path, port: int, login: Login, tls: bool
) -> tuple[Program, str]:
    """
    Start pgbouncer, as the unprivileged account where we are root.

    @raise Missing: there is none that this account could run
    """
    if scene.pgbouncer is None:
        raise Missing(PGBOUNCER)
    peer = reachable(scene.pgbouncer, scene.account, scene.folder)
    database = scene.database
    users = folder / "users.txt"
    users.write_text(f'"{database.client.name}" "{database.verifier}"\n')
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "trust" if login is Login.TRUST else "scram-sha-256",
        "auth_file": str(users),
        "pool_mode": "session",
        "default_pool_size": str(POOL_SIZE),
        "max_client_conn": str(MAX_CLIENTS),
        "ignore_startup_parameters": "extra_float_digits",
        "server_tls_sslmode": "disable",
    }
    if tls:
        settings |= {
            "client_tls_sslmode": "allow",
            "client_tls_cert_file": str(scene.certificate),
            "client_tls_key_file": str(scene.key),
        }
    service = database.service
    path = folder / "pgbouncer.ini"
    path.write_text(
        f"[databases]\n{NAME} = host=127.0.0.1 port={database.port} dbname={NAME}"
        f" user={service.name} password={service.password}\n[pgbouncer]\n"
        + "".join(f"{key} = {value}\n" for key, value in settings.items())
    )
    for file in (users, path):
        scene.give(file)
    program = Program(PGBOUNCER, [peer.path, path], folder, scene.account, peer.environment)
    return program, peer.version
