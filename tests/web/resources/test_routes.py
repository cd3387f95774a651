"""Tests for L{proxyd.web.resources.routes}."""

from __future__ import annotations

from proxyd.target import Target
from proxyd.web.resources.routes import target_of
from tests.web.scene import ApiTestCase


class RoutesTests(ApiTestCase):
    """Which way a target would go."""

    async def test_explain(self) -> None:
        """A refused one, and one that goes."""
        heard = await self.ask("GET", "/api/routes/explain?target=10.0.0.1:80&user=ann")
        self.assertEqual(heard.value["way"], None)
        self.assertEqual(heard.value["why"], "route 1 (10.0.0.0/8) denies it")
        heard = await self.ask("GET", "/api/routes/explain?target=%5B2001:db8::1%5D:80")
        self.assertEqual((heard.value["way"], heard.value["dialled"]), ("direct", ["2001:db8::1"]))
        self.assertEqual(heard.value["lines"][0], "[2001:db8::1]:80: direct")

    async def test_wrong(self) -> None:
        """What is no target is told so."""
        for query in ("", "?target=x", "?target=x:0", "?target=::1:80", "?target=x:99999"):
            heard = await self.ask("GET", f"/api/routes/explain{query}")
            self.assertEqual(heard.status, 422, query)

    def test_targets(self) -> None:
        """HOST:PORT."""
        self.assertEqual(target_of("a:1"), Target("a", 1))
        self.assertEqual(target_of("[::1]:65535"), Target("::1", 65535))
        for text in ("a", ":1", "a:", "a:x", "a:٣"):
            self.assertIsNone(target_of(text), text)
