"""Tests for L{proxyd.web.resources.telling}."""

from __future__ import annotations

from tests.web.scene import ApiTestCase


class TellingTests(ApiTestCase):
    """Metrics and the description."""

    async def test_metrics(self) -> None:
        """Prometheus's own content type, and the figures of the rooms."""
        heard = await self.ask("GET", "/metrics", token=None)
        self.assertTrue(heard.headers["content-type"].startswith("text/plain; version="))
        self.assertIn(b"\nproxyd_sessions 2.0\n", heard.body)

    async def test_own_requests(self) -> None:
        """The API's own requests are among them, by call, not by path."""
        await self.ask("DELETE", "/api/sessions/424242")
        await self.ask("GET", "/what/nobody/knows")
        text = (await self.ask("GET", "/metrics")).body.decode()
        series = 'method="DELETE",path="/api/sessions/{session_id}",status="404"'
        self.assertIn(f"proxyd_api_requests_total{{{series}}} 1.0", text)
        self.assertNotIn("424242", text)
        self.assertNotIn("nobody", text)

    async def test_description_is_for_the_token(self) -> None:
        """The description is not for strangers."""
        self.assertEqual((await self.ask("GET", "/openapi.json", token=None)).status, 401)
