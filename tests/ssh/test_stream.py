"""Tests for L{proxyd.ssh.stream}: what every stream promises, over a real OpenSSH server."""

from __future__ import annotations

from twisted.internet.interfaces import IStreamClientEndpoint

from proxyd.target import Target
from tests.ssh.scene import ANN, SshCase
from tests.support.streams import StreamConformance


class SshStreamTests(StreamConformance, SshCase):
    """A channel of an SSH connection."""

    async def way(self, port: int) -> IStreamClientEndpoint:
        """Through an upstream."""
        upstream = self.upstream(self.sshd())
        self.addCleanup(self.none_left, upstream)
        return upstream.endpoint_for(Target("127.0.0.1", port), ANN)
