"""Tests for L{proxyd.ctl.agents}."""

from __future__ import annotations

from proxyd.ctl.main import DONE, FAILED
from tests.ctl.asked import AskedTestCase


class AgentsTests(AskedTestCase):
    """Add, list, remove."""

    async def test_life(self) -> None:
        """The first line of what is added is the token, for a file."""
        self.assertEqual((await self.ctl("agents", "list")).out, "no agent may come\n")
        ran = await self.ctl("agents", "add", "pc1")
        self.assertEqual((ran.code, ran.err), (DONE, ""))
        token = ran.out.splitlines()[0]
        self.assertTrue(token.startswith("pxa_"))
        self.assertIn("sha256:00", ran.out)
        ran = await self.ctl("agents", "list")
        self.assertIn("pc1", ran.out)
        self.assertNotIn(token, ran.out)
        ran = await self.ctl("agents", "remove", "pc1")
        self.assertEqual(ran.out, "agent pc1 may not come any more\n")
        ran = await self.ctl("agents", "remove", "pc1")
        self.assertEqual((ran.code, len(ran.err.splitlines())), (FAILED, 1))

    async def test_json(self) -> None:
        """For programs."""
        made = (await self.ctl("agents", "add", "pc1", "--json")).value
        self.assertEqual(made["client_id"], "pc1")
        self.assertEqual(len((await self.ctl("agents", "list", "--json")).value["agents"]), 1)
