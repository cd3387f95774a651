"""
C{pg.token_connect}: what a login by a token costs, beside one that proves nothing.

One proxyd with two connections to the same database, C{auth: token} and
C{auth: trust}; logins a second of pgbench, which makes a new connection for
each query.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.database import NAME
from bench.load import Queries, connect
from bench.place import Place, User
from bench.programs import REPOSITORY, Missing, Program
from bench.rounds import Result, compare, interleave
from bench.scene import Scene
from bench.sides import POOL_SIZE, PROXYD_VARIABLES, Side
from demo.probe import free_port
from proxyd.auth.issued import OwnSecret, digest_of
from proxyd.records import TokenRecord
from proxyd.store.sqlite import SqliteStore

SECRET = "the secret of the tokens of this benchmark"
CLIENTS = 8
SECONDS = 2
TOKEN, TRUST = "token", "trust"


def token_connect(scene: Scene) -> list[Result]:
    """
    Logins a second by a token, against logins without any proof.

    @raise Missing: C{twistd} is not beside this Python
    """
    with _opened(scene) as sides:

        def measure(name: str) -> Queries:
            return connect(scene, sides[name], clients=CLIENTS, seconds=SECONDS)

        for name in sides:
            measure(name)
        runs = interleave(tuple(sides), measure, scene.settings.rounds, scene.is_late)
    ours, theirs = (runs.pick(name, lambda run: run.rate) for name in (TOKEN, TRUST))
    cpu = {
        "cpu_us_ours": round(runs.middle(TOKEN, lambda run: run.cpu_us), 1),
        "cpu_us_theirs": round(runs.middle(TRUST, lambda run: run.cpu_us), 1),
    }
    return [compare("pg.token_connect", "per s", "auth: trust", ours, theirs, more=cpu)]


@contextmanager
def _opened(scene: Scene) -> Iterator[dict[str, Side]]:
    """The two connections of one proxyd."""
    folder, port = scene.make_folder("proxyd"), free_port()
    token = _remembered(folder / "state.sqlite")
    program = _start(scene, folder, port)
    try:
        program.wait_listening(port)
        yield {
            TOKEN: Side(TOKEN, Place(port, "tokened", User("token", token)), program),
            TRUST: Side(TRUST, Place(port, NAME, scene.database.client), program),
        }
    finally:
        program.stop()


def _start(scene: Scene, folder: Path, port: int) -> Program:
    service = scene.database.service
    connection = {
        "dsn": f"postgresql://{service.name}@127.0.0.1:{scene.database.port}/{NAME}?sslmode=disable",
        "password": service.password,
        "max_open_connections": POOL_SIZE,
    }
    config = {
        "state": f"sqlite:///{str(folder.absolute()).lstrip('/')}/state.sqlite",
        "tokens": {"secret": SECRET},
        "postgres": {"listen": [f"127.0.0.1:{port}"]},
        "connections": {
            "tokened": {**connection, "auth": "token"},
            NAME: {**connection, "auth": "trust"},
        },
    }
    path = folder / "proxyd.yaml"
    path.touch(0o600)
    path.write_text(json.dumps(config, indent=1))
    twistd = Path(sys.executable).with_name("twistd")
    if not twistd.exists():
        raise Missing(f"twistd (not beside {sys.executable})")
    variables = {key: value for key, value in os.environ.items() if key not in PROXYD_VARIABLES}
    variables["PYTHONPATH"] = str(REPOSITORY)
    argv: list[str | Path] = [twistd, "-n", "--pidfile=", "proxyd", "-c", path]
    return Program("proxyd", argv, folder, environment=variables)


class _NoReactor:
    """Nobody waits for a thread here."""

    def seconds(self) -> float:
        """Never asked."""
        return 0.0


def _remembered(path: Path) -> str:
    """A token that the state file knows."""
    now = int(time.time())
    claims = {
        "database_id": "tokened",
        "token_id": "bench",
        "type": "database_access",
        "iat": now,
        "exp": now + 86400,
    }
    token = OwnSecret(SECRET.encode()).sign(claims)
    store = SqliteStore(_NoReactor(), str(path), 60.0)
    store.open_now()
    digest = digest_of(token.encode())
    store.add_token(TokenRecord("bench", "", digest, "tokened", "", now, now + 86400))
    store.close()
    return token
