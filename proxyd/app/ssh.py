"""An SSH upstream of the configuration, made into one that runs."""

from __future__ import annotations

from pathlib import Path

from proxyd.app.room import Ground
from proxyd.config.model import State
from proxyd.config.times import LONGEST_DIAL
from proxyd.config.ways import Upstream
from proxyd.interfaces import IDialer
from proxyd.net.certificates import state_directory
from proxyd.ssh.known_hosts import HostKeys
from proxyd.ssh.upstream import Host, SshLogin, SshUpstream
from proxyd.target import Principal

KNOWN_HOSTS = "ssh_known_hosts"
"""The file of the state directory with the keys of servers that were seen."""

_OURSELVES = Principal("", "proxyd")


def ssh_upstream(upstream: Upstream, ground: Ground, state: State, dialer: IDialer) -> SshUpstream:
    """
    An upstream of SSH servers, not started yet.

    @param upstream: one with C{ssh} and C{hosts}
    @param state: where host keys are kept that are accepted at first sight
    @param dialer: the way to the servers: the direct one, or the upstream that
        C{via} names
    @raise StartError: the passphrase can't be read
    """
    ssh = upstream.ssh
    assert ssh is not None
    if ssh.known_hosts is not None:
        host_keys = HostKeys(Path(ssh.known_hosts), learn=False)
    else:
        folder = state_directory(state, ground.environment)
        host_keys = HostKeys(Path(folder) / KNOWN_HOSTS, learn=True)
    login = SshLogin(
        ssh.user,
        None if ssh.key is None else Path(ssh.key),
        None if ssh.passphrase is None else ssh.passphrase.read(),
        ground.environment.get("SSH_AUTH_SOCK"),
        host_keys,
    )
    hosts = [
        Host(str(target), target.host, target.port, dialer.endpoint_for(target, _OURSELVES))
        for target in upstream.hosts
    ]
    return SshUpstream(
        upstream.name,
        hosts,
        login,
        ground.reactor,  # type: ignore[arg-type]  # the daemon's can do all of it
        resolves="local" if upstream.resolve == "local" else "far",
        sessions=upstream.sessions,
        timeout=LONGEST_DIAL,
    )
