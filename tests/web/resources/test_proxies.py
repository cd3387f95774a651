"""Tests for L{proxyd.web.resources.proxies}."""

from __future__ import annotations

import socket
from typing import Any

from tests.agents.scene import free_port
from tests.web.scene import ApiTestCase, Heard


class ProxiesTests(ApiTestCase):
    """Made, looked at, closed."""

    async def create(self, **changes: Any) -> Heard:
        """As it was first written down."""
        body = {
            "client_id": "pc1",
            "remote_host": "192.168.1.100",
            "remote_port": 3389,
            "local_port": free_port(),
            **changes,
        }
        return await self.ask("POST", "/api/proxy/create", body)

    async def test_life(self) -> None:
        """Created, listed, shown, and gone; its port listens meanwhile."""
        await self.agents.add("pc1")
        heard = await self.create()
        self.assertEqual(heard.status, 201)
        made = heard.value
        self.assertEqual((made["connected"], made["client_id"]), (False, ["pc1"]))
        self.assertEqual(made["bind"], "127.0.0.1")
        rows = (await self.ask("GET", "/api/proxy/list")).value["proxies"]
        self.assertEqual([row["proxy_id"] for row in rows], [made["proxy_id"]])
        path = f"/api/proxy/{made['proxy_id']}"
        self.assertEqual((await self.ask("GET", path)).value, made)
        self.assertEqual((await self.ask("DELETE", path)).status, 200)
        self.assertEqual((await self.ask("GET", path)).status, 404)
        with socket.socket() as now_free:
            now_free.bind(("127.0.0.1", made["local_port"]))

    async def test_whole(self) -> None:
        """Every wish is kept."""
        for client_id in ("pc1", "pc2"):
            await self.agents.add(client_id)
        wishes = {
            "client_id": ["pc1", "pc2"],
            "protocol": "tcp",
            "bind": "127.0.0.1",
            "allow": ["10.0.0.0/8", "192.168.1.7"],
            "bandwidth": 1_000_000,
            "max_connections": 5,
            "proxy_protocol": "v2",
            "pool": 2,
            "compress": True,
        }
        made = (await self.create(**wishes, idle_timeout="30m")).value
        self.assertEqual(made["allow"], ["10.0.0.0/8", "192.168.1.7/32"])
        self.assertEqual(made["idle_timeout"], 1800.0)
        for name in ("client_id", "bandwidth", "max_connections", "proxy_protocol", "pool"):
            self.assertEqual(made[name], wishes[name], name)

    async def test_refused(self) -> None:
        """Unknown agent 404, taken port 409, nonsense 422, each with its reason."""
        heard = await self.create()
        self.assertEqual(heard.status, 404)
        self.assertIn("there is no agent pc1", heard.value["error"]["message"])
        await self.agents.add("pc1")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            heard = await self.create(local_port=taken.getsockname()[1])
        self.assertEqual(heard.status, 409)
        self.assertIn("in use", heard.value["error"]["message"])
        for changes in (
            {"local_port": 0},
            {"local_port": 80},
            {"remote_port": 65536},
            {"remote_host": "a b"},
            {"remote_host": ""},
            {"client_id": []},
            {"allow": ["10.0.0"]},
            {"bandwidth": 0},
            {"idle_timeout": "soon"},
            {"protocol": "udp"},
            {"bind": "not a host"},
            {"proxy_protocol": "v3"},
            {"unknown": 1},
        ):
            heard = await self.create(**changes)
            self.assertEqual(heard.status, 422, changes)
        self.assertEqual((await self.ask("GET", "/api/proxy/list")).value, {"proxies": []})
