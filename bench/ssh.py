"""
C{ssh.bulk}: proxyd's SOCKS5 with an SSH upstream beside C{ssh -D}, over the same sshd.

Both speak the same cipher to one real OpenSSH server, and lead to the same
target on loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.programs import REPOSITORY, Program, find_program
from bench.rounds import Result, compare, interleave
from bench.scene import Scene
from bench.sides import PROXYD_VARIABLES
from bench.stream import move
from demo.probe import free_port

CIPHER = "aes128-gcm@openssh.com"
"""The fastest that both speak; ssh's own first choice can't be spoken by proxyd."""

PROXYD = "proxyd"
SSH = "ssh -D"


@dataclass(frozen=True, slots=True)
class Door:
    """A SOCKS5 proxy, and the process whose time counts."""

    program: Program
    port: int


@dataclass(frozen=True, slots=True)
class Moved:
    """One run: megabytes a second, and the proxy's CPU for each gigabyte."""

    rate: float
    cpu_per_gb: float


def bulk(scene: Scene) -> list[Result]:
    """
    Megabytes a second of one stream, toward the client and from it.

    @raise Missing: there is no OpenSSH
    """
    size = scene.settings.copy_bytes
    with _opened(scene) as (doors, target):
        results = []
        for name, amount in (("ssh.bulk", size), ("ssh.bulk_up", -size)):
            for door in doors.values():
                move(door.port, target, amount)  # the first run opens the windows
            results.append(_measured(scene, doors, target, name, amount))
    return results


def _measured(scene: Scene, doors: dict[str, Door], target: int, name: str, size: int) -> Result:
    def measure(side: str) -> Moved:
        door = doors[side]
        before = door.program.cpu_seconds()
        rate = move(door.port, target, size)
        return Moved(rate, (door.program.cpu_seconds() - before) * 1e9 / abs(size))

    runs = interleave(tuple(doors), measure, scene.settings.rounds, scene.is_late)
    cpu = {
        f"cpu_s_per_gb_{whose}": round(runs.middle(side, lambda run: run.cpu_per_gb), 3)
        for whose, side in (("ours", PROXYD), ("theirs", SSH))
    }
    ours, theirs = (runs.pick(side, lambda run: run.rate) for side in (PROXYD, SSH))
    return compare(name, "MB/s", SSH, ours, theirs, more={"cipher": CIPHER, **cpu})


@contextmanager
def _opened(scene: Scene) -> Iterator[tuple[dict[str, Door], int]]:
    """Both proxies and what is behind them, until the block ends."""
    with ExitStack() as stack:
        folder = scene.make_folder("ssh")

        def started(name: str, port: int, *words: str | Path, **more: object) -> Program:
            program = Program(name, words, folder, **more)  # type: ignore[arg-type]
            stack.callback(program.stop)
            program.wait_listening(port)
            return program

        keys = Keys(scene, folder)
        server, target = free_port(), free_port()
        started("sshd", server, *keys.sshd(server), account=scene.account)
        kept = {key: value for key, value in os.environ.items() if key not in PROXYD_VARIABLES}
        here = kept | {"PYTHONPATH": str(REPOSITORY)}
        source = (sys.executable, "-m", "bench.stream", str(target))
        started("target", target, *source, environment=here)
        ours, theirs = free_port(), free_port()
        doors = {
            PROXYD: Door(started(PROXYD, ours, *keys.proxyd(ours, server), environment=here), ours),
            SSH: Door(started("ssh", theirs, *keys.ssh(theirs, server)), theirs),
        }
        yield doors, target


class Keys:
    """The keys of the run, and the command lines that name them."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self._folder = folder
        self._user = scene.account.name
        keygen = find_program("ssh-keygen")
        for name in ("host", "client"):
            command = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
            subprocess.run([str(word) for word in command], check=True)
        shutil.copy(folder / "client.pub", folder / "authorized")
        (folder / "authorized").chmod(0o644)
        scene.give(folder / "host")

    def sshd(self, port: int) -> tuple[str | Path, ...]:
        """The server: run as an ordinary user, it needs nothing of the system's."""
        lines = (
            f"ListenAddress 127.0.0.1:{port}",
            f"HostKey {self._folder / 'host'}",
            f"AuthorizedKeysFile {self._folder / 'authorized'}",
            "PidFile none",
            "StrictModes no",
            "UsePAM yes",
        )
        config = self._folder / "sshd_config"
        config.write_text("\n".join(lines) + "\n")
        return (find_program("sshd"), "-D", "-e", "-f", config)

    def ssh(self, port: int, server: int) -> tuple[str | Path, ...]:
        """OpenSSH's own SOCKS5."""
        return self._client(server, "-D", f"127.0.0.1:{port}")

    def ssh_back(self, port: int, server: int, target: int) -> tuple[str | Path, ...]:
        """OpenSSH's reverse port."""
        return self._client(server, "-R", f"127.0.0.1:{port}:127.0.0.1:{target}")

    def _client(self, server: int, *what: str) -> tuple[str | Path, ...]:
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes")
        words = [word for option in options for word in ("-o", option)]
        words += ["-N", "-F", "none", "-c", CIPHER, *what]
        words += ["-i", str(self._folder / "client"), "-p", str(server)]
        return (find_program("ssh"), *words, f"{self._user}@127.0.0.1")

    def proxyd(self, port: int, server: int) -> tuple[str | Path, ...]:
        """Ours."""
        ssh = {"user": self._user, "key": str(self._folder / "client")}
        # JSON is YAML.
        settings = {
            "state": f"sqlite:///{self._folder}/state.sqlite",
            "socks5": {"listen": [f"127.0.0.1:{port}"]},
            "upstreams": {"box": {"ssh": ssh, "hosts": [f"127.0.0.1:{server}"]}},
            "routes": [{"match": "127.0.0.0/8", "upstream": "box"}],
        }
        config = self._folder / "proxyd.yaml"
        config.write_text(json.dumps(settings))
        twistd = Path(sys.executable).with_name("twistd")
        return (twistd, "-n", "--pidfile=", "proxyd", "-c", config)
