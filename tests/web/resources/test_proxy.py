"""Tests for L{proxyd.web.resources.proxy}."""

from __future__ import annotations

from proxyd import __version__
from tests.web.scene import ApiTestCase


class ProxyTests(ApiTestCase):
    """The state of the whole, and its restart."""

    async def test_status(self) -> None:
        """Where it listens, who is in, since when."""
        value = (await self.ask("GET", "/api/docker/proxy")).value
        self.assertEqual(
            value,
            {
                "status": "ready",
                "version": __version__,
                "uptime_seconds": 12.5,
                "listeners": [{"kind": "postgres", "address": "127.0.0.1:6432"}],
                "sessions": {"postgres": 2},
                "pools": [],
                "upstreams": [],
            },
        )

    async def test_restart(self) -> None:
        """It is asked for once, and answers with the state afterwards; a body does not matter."""
        heard = await self.ask("POST", "/api/docker/proxy/restart", b"whatever")
        self.assertEqual((heard.status, heard.value["status"]), (200, "ready"))
        self.assertEqual(self.operations.restarts, 1)

    async def test_restart_that_fails(self) -> None:
        """A listener that can't be opened again is named."""
        self.operations.problem = "can't listen at 127.0.0.1:6432: Address already in use"
        heard = await self.ask("POST", "/api/docker/proxy/restart")
        self.assertEqual((heard.status, heard.code), (503, "unavailable"))
        self.assertIn("127.0.0.1:6432", heard.value["error"]["message"])

    async def test_draining(self) -> None:
        """While it drains nothing is opened again."""
        self.operations.state = "draining"
        heard = await self.ask("POST", "/api/docker/proxy/restart")
        self.assertEqual((heard.status, heard.code), (503, "draining"))
        self.assertEqual(self.operations.restarts, 0)
