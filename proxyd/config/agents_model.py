"""
Reverse agents as values of the configuration; L{proxyd.config.agents} reads them from a file.

Durations are seconds, sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxyd.config.model import Listener, Network


@dataclass(frozen=True, slots=True)
class AgentTimes:
    """
    What no key sets.

    @param keepalive: between two pings; after three without a word a peer is dead
    @param dial: how long an agent may take to reach its target
    @param retry_first: an agent's first pause before it dials the server again
    @param retry_longest: its longest
    @param retry_soon: its longest while the server was lost not long ago, so that one
        that is started again has its agents within five seconds
    @param retry_soon_for: how long that is
    """

    keepalive: float = 15.0
    dial: float = 10.0
    retry_first: float = 0.5
    retry_longest: float = 30.0
    retry_soon: float = 4.0
    retry_soon_for: float = 60.0


@dataclass(frozen=True, slots=True)
class AgentTls:
    """
    TLS toward agents; without a certificate it is proxyd's own.

    @param mode: C{require}, C{disable}, or C{auto}: where all listeners are
        loopback there is none
    """

    mode: str = "auto"
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ReversePort:
    """
    A local port whose users reach a host behind an agent.

    @param client_ids: agents that may carry it, the least loaded first
    @param allow: where users may come from; None: anywhere that reaches the port
    @param bandwidth: bytes a second in each direction, for all users together; None: no limit
    @param max_connections: users at a time; None: no limit
    @param idle_timeout: a user who is silent for so long is closed; None: never
    @param proxy_protocol: C{v1} or C{v2}: the target is told the user's address first
    @param pool: connections to the target that are made ahead
    @param compress: compress where it pays
    """

    client_ids: tuple[str, ...]
    remote_host: str
    remote_port: int
    local_port: int
    bind: str = "127.0.0.1"
    protocol: str = "tcp"
    allow: tuple[Network, ...] | None = None
    bandwidth: int | None = None
    max_connections: int | None = None
    idle_timeout: float | None = None
    proxy_protocol: str | None = None
    pool: int = 0
    compress: bool = False


@dataclass(frozen=True, slots=True)
class Agents:
    """
    The listener for agents, and the ports that are open from the start.

    @param ports: which local ports may be opened by the API, both ends included
    @param grace: how long listeners and new users wait for a lost agent
    """

    listen: tuple[Listener, ...] = ()
    tls: AgentTls = AgentTls()
    ports: tuple[int, int] = (1024, 65535)
    grace: float = 30.0
    proxies: tuple[ReversePort, ...] = ()
    times: AgentTimes = AgentTimes()
