"""Tests for L{proxyd.agents.upstream}, and what its streams promise."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from proxyd.agents.upstream import AgentUpstream
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IUpstream
from proxyd.target import Principal, Target
from tests.agents.scene import SETTINGS, AgentsTestCase, free_port
from tests.agents.scene import Target as Targets
from tests.support.streams import Party, StreamConformance, until

ANN = Principal("ann", "192.0.2.9")


class AgentStreamTests(StreamConformance, AgentsTestCase):
    """A stream of an agent's, by frames: all that is asked of every way."""

    async def setUp(self) -> None:
        """An agent is here."""
        await AgentsTestCase.setUp(self)
        await self.agent()
        self.upstream = AgentUpstream("office", self.registry, ("pc1",))
        self.upstream.startService()  # type: ignore[no-untyped-call]

    async def way(self, port: int) -> IStreamClientEndpoint:
        """Through the agent."""
        return self.upstream.endpoint_for(Target("127.0.0.1", port), ANN)


class AgentUpstreamTests(AgentsTestCase):
    """An agent as a way out."""

    def upstream(self, *client_ids: str) -> AgentUpstream:
        """Through these agents."""
        upstream = AgentUpstream("office", self.registry, client_ids or ("pc1",))
        upstream.startService()  # type: ignore[no-untyped-call]
        return upstream

    async def connect(self, upstream: AgentUpstream, port: int) -> Party:
        """A connection to a port of loopback."""
        endpoint = upstream.endpoint_for(Target("127.0.0.1", port), ANN)
        return await endpoint.connect(Factory.forProtocol(Party))  # type: ignore[return-value]

    async def failure(self, upstream: AgentUpstream, port: int) -> DialError:
        """How it fails."""
        with self.assertRaises(DialError) as caught:
            await self.connect(upstream, port)
        return caught.exception

    async def test_interface(self) -> None:
        """It is an upstream."""
        verifyObject(IUpstream, self.upstream())

    async def test_refused(self) -> None:
        """A target that refuses is the target's fault, told as such."""
        await self.agent()
        upstream = self.upstream()
        error = await self.failure(upstream, free_port())
        self.assertEqual(error.failure, DialFailure.REFUSED)
        self.assertEqual(upstream.status().failed, 0)

    async def test_denied(self) -> None:
        """What the agent's own list does not have is denied, whatever the server says."""
        await self.agent(allow=("10.0.0.0/8",))
        error = await self.failure(self.upstream(), free_port())
        self.assertEqual(error.failure, DialFailure.DENIED)

    async def test_status(self) -> None:
        """Whether it is up, by which agent, with how many connections."""
        upstream = self.upstream()
        await self.registry.add("elsewhere")
        self.assertEqual(upstream.status().state, "connecting")
        await self.agent()
        there = Targets()
        party = await self.connect(upstream, self.listen(there))
        status = upstream.status()
        self.assertEqual((status.state, status.in_use, status.opened), ("up", "pc1", 1))
        self.assertEqual([one.streams for one in status.instances], [1])
        party.stream.abortConnection()
        await until(lambda: not there.there, "the target to be alone")
        upstream.stopService()  # type: ignore[no-untyped-call]
        self.assertEqual(upstream.status().state, "stopped")

    async def test_least_loaded(self) -> None:
        """Of several agents the one with the fewest connections."""
        await self.agent("pc1")
        await self.agent("pc2")
        upstream = self.upstream("pc1", "pc2")
        port = self.listen(Targets())
        parties = [await self.connect(upstream, port) for _ in range(6)]
        self.assertEqual([one.streams for one in upstream.status().instances], [3, 3])
        for party in parties:
            party.stream.abortConnection()

    async def test_waits(self) -> None:
        """Where no agent is here, one is waited for."""
        await self.agent(here=False)
        party = await self.connect(self.upstream(), self.listen(Targets()))
        party.stream.loseConnection()


class AbsentTests(AgentsTestCase):
    """Nobody comes."""

    from dataclasses import replace as _replace

    settings = _replace(SETTINGS, grace=0.1)

    async def test_absent(self) -> None:
        """After C{grace} it is the way that failed, and the line names the agent."""
        upstream: Any = AgentUpstream("office", self.registry, ("pc1",))
        endpoint = upstream.endpoint_for(Target("127.0.0.1", 1), ANN)
        with self.assertRaises(DialError) as caught:
            await endpoint.connect(Factory.forProtocol(Party))
        self.assertEqual(caught.exception.failure, DialFailure.BROKEN)
        self.assertIn("agent pc1 is not here", str(caught.exception))
        self.assertEqual(upstream.status().failed, 1)
