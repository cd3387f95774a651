"""Tests for L{proxyd.web.resources.health}."""

from __future__ import annotations

from tests.web.scene import ApiTestCase


class HealthTests(ApiTestCase):
    """What balancers ask."""

    async def test_ready(self) -> None:
        """It lives all the time, and is ready between start and drain."""
        for state, status in (("starting", 503), ("ready", 200), ("draining", 503)):
            self.operations.state = state
            heard = await self.ask("GET", "/readyz", token=None)
            self.assertEqual(heard.status, status)
            if status == 503:
                self.assertEqual(heard.code, state)
            self.assertEqual((await self.ask("GET", "/healthz", token=None)).status, 200)
