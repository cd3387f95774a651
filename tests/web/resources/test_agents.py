"""Tests for L{proxyd.web.resources.agents}."""

from __future__ import annotations

from tests.web.scene import ApiTestCase


class AgentsTests(ApiTestCase):
    """Let in, listed, removed."""

    async def test_life(self) -> None:
        """The token is shown once, with the pin of the listener's certificate."""
        heard = await self.ask("POST", "/api/agents", {"client_id": "pc1"})
        self.assertEqual(heard.status, 201)
        self.assertEqual(set(heard.value), {"client_id", "token", "pin"})
        listed = await self.ask("GET", "/api/agents")
        self.assertNotIn(heard.value["token"].encode(), listed.body)
        (row,) = listed.value["agents"]
        self.assertEqual((row["client_id"], row["connected_since"]), ("pc1", None))
        heard = await self.ask("DELETE", "/api/agents/pc1")
        self.assertEqual((heard.status, heard.value), (200, {"client_id": "pc1"}))
        self.assertEqual((await self.ask("DELETE", "/api/agents/pc1")).status, 404)

    async def test_refused(self) -> None:
        """An id that is there already, or can't be one."""
        await self.ask("POST", "/api/agents", {"client_id": "pc1"})
        self.assertEqual((await self.ask("POST", "/api/agents", {"client_id": "pc1"})).status, 409)
        for client_id in ("", "a b", "é", "-a", "a\n", "x" * 129, 7, None):
            heard = await self.ask("POST", "/api/agents", {"client_id": client_id})
            self.assertEqual(heard.status, 422, client_id)
