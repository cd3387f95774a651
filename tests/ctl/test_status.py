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

UPSTREAM = {
    "upstream": "office",
    "state": "up",
    "in_use": "box-2:22",
    "last_error": "",
    "opened": 7,
    "failed": 1,
    "instances": [
        {
            "instance": "box-1:22",
            "state": "lost",
            "sessions": 0,
            "streams": 0,
            "last_error": "connection refused\x1b",
        },
        {
            "instance": "box-2:22",
            "state": "connected",
            "sessions": 2,
            "streams": 4,
            "last_error": "",
        },
    ],
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

    async def test_upstreams(self) -> None:
        """Each with its instances: which is used, which is lost, and why."""

        def upstreams() -> Sequence[dict[str, Any]]:
            return [UPSTREAM, UPSTREAM | {"upstream": "agents", "state": "down", "instances": []}]

        self.operations.upstreams = upstreams  # type: ignore[method-assign]
        lines = (await self.ctl("status")).out.splitlines()
        (lost,) = (line for line in lines if "box-1:22" in line)
        (used,) = (line for line in lines if "box-2:22" in line)
        self.assertTrue(lost.startswith("office") and "connection refused" in lost, lost)
        self.assertIn("connected, in use", used)
        self.assertNotIn("\x1b", "".join(lines))
        self.assertTrue(any(line.split()[:2] == ["agents", "down"] for line in lines), lines)

    async def test_json(self) -> None:
        """All of it, as the API has it."""
        ran = await self.ctl("status", "--json")
        self.assertEqual(ran.value, (await self.ask("GET", "/api/docker/proxy")).value)
