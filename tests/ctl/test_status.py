"""Tests for L{proxyd.ctl.status}."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxyd import __version__
from tests.ctl.asked import AskedTestCase

POOL = {
    "pool": "shop/shop/svc",
    "last_error": "db: \x1b[2J",
    "total_connections": 3,
    "idle_connections": 1,
    "in_use_connections": 2,
    "max_connections": 10,
    "waiting": 0,
    "clients": 4,
    "acquire_count": 5,
}


class StatusTests(AskedTestCase):
    """How it is."""

    async def test_told(self) -> None:
        """State, listeners, sessions and pools; nothing in it reaches the terminal as it is."""

        def pools() -> Sequence[dict[str, Any]]:
            return [POOL]

        self.operations.pools = pools  # type: ignore[method-assign]
        self.operations.uptime = 90061.0
        ran = await self.ctl("status")
        lines = ran.out.splitlines()
        self.assertEqual(lines[0], f"proxyd {__version__} is ready, for 1 d 1 h")
        self.assertEqual(lines[1:3], ["  postgres at 127.0.0.1:6432", "  2 postgres sessions"])
        self.assertIn("shop/shop/svc", ran.out)
        self.assertNotIn("\x1b", ran.out)

    async def test_json(self) -> None:
        """All of it, as the API has it."""
        ran = await self.ctl("status", "--json")
        self.assertEqual(ran.value, (await self.ask("GET", "/api/docker/proxy")).value)
