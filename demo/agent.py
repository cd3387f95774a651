"""
The demo's agent, and the reverse port that leads through it.

The agent runs as it would on a machine elsewhere: it knows the server's URL and a
token, and dials nothing but what it is told to.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from proxyd.ctl.client import CallFailed, Client

CLIENT_ID = "demo"
STOP_SECONDS = 10.0
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Reverse:
    """
    A reverse port of the demo's; all is on loopback.

    @param agents: the port that agents come to
    @param local: the port that users come to
    @param remote: where it leads
    """

    agents: int
    local: int
    remote: int


def open_reverse(client: Client, host: str, reverse: Reverse) -> str:
    """
    Have proxyd open the port, and let the agent come; gives the agent's token.

    What an earlier demo left in the state is replaced.

    @raise CallFailed: proxyd refuses
    """
    for proxy in client.get("/api/proxy/list")["proxies"]:
        if CLIENT_ID in proxy["client_id"]:
            client.delete("/api/proxy", proxy["proxy_id"])
    try:
        client.delete("/api/agents", CLIENT_ID)
    except CallFailed as error:
        if error.status != NOT_FOUND:
            raise
    token: str = client.post("/api/agents", {"client_id": CLIENT_ID})["token"]
    wanted = {
        "client_id": CLIENT_ID,
        "remote_host": host,
        "remote_port": reverse.remote,
        "local_port": reverse.local,
    }
    client.post("/api/proxy/create", wanted)
    return token


def start_agent(
    token: str, host: str, reverse: Reverse, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the agent, in a session of its own; it need not be there for users to come."""
    command = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
    command += ["proxyd-agent", "--server", f"ws://{host}:{reverse.agents}/agent"]
    command += ["--id", CLIENT_ID, "--allow", f"{host}:{reverse.remote}", "--log-level", "warn"]
    return subprocess.Popen(
        command,
        env={**os.environ, **environment, "PROXYD_AGENT_TOKEN": token},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop_agent(agent: subprocess.Popen[bytes]) -> None:
    """End it, and wait until it has ended."""
    agent.terminate()
    try:
        agent.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()
