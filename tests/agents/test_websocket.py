"""Tests for L{proxyd.agents.websocket}; tests/agents/test_registry.py has it at work."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.agents.websocket import AgentClientFactory, AgentServerFactory, has_fast_masking
from proxyd.wire.agent.frames import MESSAGE_LIMIT, SUBPROTOCOL


class FactoryTests(SynchronousTestCase):
    """What autobahn is told."""

    def test_limits(self) -> None:
        """Both ends take no longer message than there may be, and compress nothing."""
        server = AgentServerFactory(lambda *_: None, lambda _: None, 5)
        client = AgentClientFactory("ws://127.0.0.1:1/agent", "token")
        for factory in (server, client):
            self.assertEqual(factory.maxMessagePayloadSize, MESSAGE_LIMIT)
            self.assertTrue(factory.tcpNoDelay)
        self.assertEqual(server.maxConnections, 5)
        self.assertEqual(client.protocols, [SUBPROTOCOL])
        self.assertEqual(client.perMessageCompressionOffers, [])

    def test_token_is_hidden(self) -> None:
        """No repr shows it."""
        client = AgentClientFactory("ws://127.0.0.1:1/agent", "hush-hush")
        self.assertNotIn("hush-hush", repr(client))

    def test_masking(self) -> None:
        """autobahn's fast masker is there, as its wheels bring it."""
        self.assertTrue(has_fast_masking())
