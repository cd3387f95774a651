"""Tests for L{proxyd.ssm.stream}: what every stream promises, over a session's smux."""

from __future__ import annotations

from twisted.internet.interfaces import IStreamClientEndpoint

from proxyd.target import Target
from tests.ssh.scene import ANN
from tests.ssm.scene import SsmCase
from tests.support.streams import StreamConformance


class SsmStreamTests(StreamConformance, SsmCase):
    """A stream in a forwarding session."""

    half_closes = False

    async def way(self, port: int) -> IStreamClientEndpoint:
        """Through an upstream."""
        upstream = self.forwarding(self.peer())
        return upstream.endpoint_for(Target("127.0.0.1", port), ANN)
