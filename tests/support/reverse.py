"""
Reverse ports of others, to see proxyd's beside them: OpenSSH's C{ssh -R}, and websocket-tunnel
(of PyPI, fetched by C{peers.sh}).
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.daemon import _end_with_us
from tests.support.sshd import Sshd, own_port, program

STOP_SECONDS = 20.0


class Other:
    """
    A server with reverse ports, and the agent behind them.

    @param places: ports of loopback that are to be reached, by any name
    @ivar ports: where users come, by the same names
    """

    name = ""

    def __init__(self, places: Mapping[str, int]) -> None:
        self.places = dict(places)
        self.ports = {name: own_port() for name in places}
        self.folder = Path(tempfile.mkdtemp(prefix="proxyd-reverse-"))
        self._agents: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []

    def start_server(self) -> None:
        """Start the server."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """That of the agent."""
        raise NotImplementedError

    def server_pids(self) -> list[int]:
        """Processes of the server."""
        raise NotImplementedError

    def start_agent(self) -> None:
        """Start an agent; one that runs already stays."""
        self._agents.append(self.run(self.command()))

    def signal_agent(self, number: signal.Signals) -> None:
        """Send the agent that was started last a signal; one that ends by it is waited for."""
        agent = self._agents[-1]
        agent.send_signal(number)
        if number is signal.SIGKILL:
            self._agents.remove(agent)
            agent.wait(STOP_SECONDS)

    def rss(self) -> tuple[int, int]:
        """Resident bytes of server and agent."""
        return sum(map(resident, self.server_pids())), resident(self._agents[-1].pid)

    def run(self, command: list[str]) -> subprocess.Popen[bytes]:
        """A process, which ends with this one."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_us,
            )
        self._all.append(process)
        return process

    def stop(self) -> None:
        """End all, and remove the folder."""
        for process in self._all:
            if process.poll() is None:
                process.kill()
            process.wait(STOP_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)


class SshBack(Other):
    """C{ssh -R}."""

    name = "OpenSSH -R"

    def start_server(self) -> None:
        """A server that notices within seconds that its client is silent, as its manual advises."""
        self._sshd = Sshd("ClientAliveInterval 5", "ClientAliveCountMax 2")
        self._sshd.start()

    def command(self) -> list[str]:
        """One client with all ports."""
        words = ["-N", "-F", "none", "-i", str(self._sshd.client_key), "-p", str(self._sshd.port)]
        for option in ("BatchMode=yes", "StrictHostKeyChecking=no", "ExitOnForwardFailure=yes"):
            words += ["-o", option]
        words += ["-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}"]
        for name, port in self.ports.items():
            words += ["-R", f"127.0.0.1:{port}:127.0.0.1:{self.places[name]}"]
        return [program("ssh"), *words, f"{self._sshd.user}@127.0.0.1"]

    def server_pids(self) -> list[int]:
        """The server, and what serves the client."""
        return self._sshd.pids()

    def stop(self) -> None:
        """End all."""
        super().stop()
        self._sshd.stop()
        self._sshd.remove()


class Tunnel(Other):
    """websocket-tunnel."""

    name = "websocket-tunnel"

    def start_server(self) -> None:
        """Its server, with a proxy for each place."""
        door = own_port()
        proxies = [
            f'[[proxies]]\nname = "{name}"\nlisten = "127.0.0.1:{self.ports[name]}"\n'
            f'listen_side = "local"\nbackend = "127.0.0.1:{place}"\nbackend_side = "peer"\n'
            for name, place in self.places.items()
        ]
        head = f'listen = "127.0.0.1:{door}"\ntoken = "word"\n'
        (self.folder / "server.toml").write_text(head + "".join(proxies))
        allowed = ", ".join(f'"127.0.0.1:{place}"' for place in self.places.values())
        (self.folder / "client.toml").write_text(
            f'server = "127.0.0.1:{door}"\ntoken = "word"\nallow_peer_backends = [{allowed}]\n'
        )
        command = [str(shutil.which("wtunnel")), "server", "-c", str(self.folder / "server.toml")]
        self._server = self.run(command)

    def command(self) -> list[str]:
        """Its client."""
        return [str(shutil.which("wtunnel")), "client", "-c", str(self.folder / "client.toml")]

    def server_pids(self) -> list[int]:
        """One process."""
        return [self._server.pid]


def resident(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
