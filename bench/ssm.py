"""
C{ssm.down} and C{ssm.up}: proxyd's SOCKS5 with an SSM upstream beside a plain autobahn relay.

The peer is the tests' own relay and agent, which is a program in Python, too:
the rate is that of both, the CPU that of proxyd (or of the relay's near end)
alone. With a peer that sleeps a millisecond for each 1024 bytes, as the real
agent does, the rate is measured with 1, 2, 4 and 8 sessions.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.programs import REPOSITORY, Program
from bench.rounds import Result, compare, interleave
from bench.scene import Scene
from bench.sides import PROXYD_VARIABLES
from bench.ssh import Door, Moved
from bench.stream import move
from demo.probe import free_port

PROXYD = "proxyd"
RELAY = "autobahn relay"
MOST_BYTES = 20_000_000
PACED_BYTES = 1_000_000
SESSIONS = (1, 2, 4, 8)


def bulk(scene: Scene) -> list[Result]:
    """Megabytes a second, toward the client and from it."""
    size = min(MOST_BYTES, scene.settings.copy_bytes)
    with _opened(scene, "ssm") as (doors, target):
        results = []
        for name, amount in (("ssm.down", size), ("ssm.up", -size)):

            def measure(side: str, amount: int = amount) -> Moved:
                door = doors[side]
                before = door.program.cpu_seconds()
                rate = move(door.port, target, amount)
                used = door.program.cpu_seconds() - before
                return Moved(rate, used * 1e9 / abs(amount))

            runs = interleave(tuple(doors), measure, scene.settings.rounds, scene.is_late)
            more: dict[str, float | int | str] = {
                f"cpu_s_per_gb_{whose}": round(runs.middle(side, lambda run: run.cpu_per_gb), 3)
                for whose, side in (("ours", PROXYD), ("theirs", RELAY))
            }
            if name == "ssm.down":
                more |= {f"paced_sessions_{n}": round(_paced(scene, n), 3) for n in SESSIONS}
            ours, theirs = (runs.pick(side, lambda run: run.rate) for side in (PROXYD, RELAY))
            results.append(compare(name, "MB/s", RELAY, ours, theirs, more=more))
    return results


def _paced(scene: Scene, sessions: int) -> float:
    """Megabytes a second in all, of as many streams as there are sessions."""
    with _opened(scene, f"paced-{sessions}", sessions, paced=True) as (doors, target):
        port = doors[PROXYD].port
        with ThreadPoolExecutor(sessions) as pool:
            rates = pool.map(lambda _: move(port, target, PACED_BYTES), range(sessions))
            return sum(rates)


@contextmanager
def _opened(
    scene: Scene, name: str, sessions: int = 1, *, paced: bool = False
) -> Iterator[tuple[dict[str, Door], int]]:
    """Both ways and what is behind them, until the block ends."""
    with ExitStack() as stack:
        folder = scene.make_folder(name)
        kept = {key: value for key, value in os.environ.items() if key not in PROXYD_VARIABLES}
        here = kept | {"PYTHONPATH": str(REPOSITORY)}

        def started(name: str, port: int, *words: str | Path) -> Program:
            program = Program(name, words, folder, environment=here)
            stack.callback(program.stop)
            program.wait_listening(port)
            return program

        python = sys.executable
        target, api, far = free_port(), free_port(), free_port()
        started("target", target, python, "-m", "bench.stream", str(target))
        pace = ("--paced",) if paced else ()
        started("peer", api, python, "-m", "tests.support.ssm_quick", *pace, str(api), "i-1")
        ours, theirs = free_port(), free_port()
        config = _config(folder, ours, api, sessions)
        twistd = Path(python).with_name("twistd")
        words = (twistd, "-n", "--pidfile=", "proxyd", "-c", config)
        doors = {PROXYD: Door(started(PROXYD, ours, *words), ours)}
        relay = (python, "-m", "bench.frames_relay")
        started("far", far, *relay, "server", str(far))
        near = started("near", theirs, *relay, "client", str(theirs), str(far))
        doors[RELAY] = Door(near, theirs)
        yield doors, target


def _config(folder: Path, port: int, api: int, sessions: int) -> Path:
    """Ours."""
    aws = {
        "region": "eu-central-1",
        "access_key": "AKID",
        "secret_key": "hush",
        "endpoint_url": f"http://127.0.0.1:{api}",
    }
    # JSON is YAML.
    settings = {
        "state": f"sqlite:///{folder}/state.sqlite",
        "socks5": {"listen": [f"127.0.0.1:{port}"]},
        "upstreams": {"box": {"aws": aws, "instances": ["i-1"], "sessions": sessions}},
        "routes": [{"match": "127.0.0.0/8", "upstream": "box"}],
    }
    config = folder / "proxyd.yaml"
    config.write_text(json.dumps(settings))
    return config
