"""Tests for L{proxyd.ctl.proxies}."""

from __future__ import annotations

from proxyd.ctl.main import DONE, FAILED, WRONG_USAGE
from tests.agents.scene import free_port
from tests.ctl.asked import AskedTestCase


class ProxiesTests(AskedTestCase):
    """Create, list, close."""

    async def test_life(self) -> None:
        """What is open is told in one line, and closed by its id."""
        self.assertEqual((await self.ctl("proxies", "list")).out, "no port is open\n")
        await self.agents.add("pc1")
        port = str(free_port())
        ran = await self.ctl("proxies", "create", "pc1", "192.168.1.100:3389", port)
        self.assertEqual((ran.code, ran.err), (DONE, ""))
        self.assertIn(f"127.0.0.1:{port} leads to 192.168.1.100:3389", ran.out)
        self.assertIn("no agent of it is here yet", ran.out)
        self.assertIn(port, (await self.ctl("proxies", "list")).out)
        (row,) = (await self.ctl("proxies", "list", "--json")).value["proxies"]
        ran = await self.ctl("proxies", "close", row["proxy_id"])
        self.assertEqual(ran.out, f"proxy {row['proxy_id']} is closed\n")

    async def test_wishes(self) -> None:
        """Every option reaches the daemon."""
        for client_id in ("pc1", "pc2"):
            await self.agents.add(client_id)
        made = (
            await self.ctl(
                "proxies", "create", "pc1,pc2", "db:5432", str(free_port()), "--allow",
                "10.0.0.0/8", "--bandwidth", "10MB", "--max-connections", "5", "--idle-timeout",
                "30m", "--proxy-protocol", "v2", "--pool", "2", "--compress", "--json",
            )
        ).value  # fmt: skip
        self.assertEqual((made["client_id"], made["bandwidth"]), (["pc1", "pc2"], 10_000_000))
        self.assertEqual((made["allow"], made["idle_timeout"]), (["10.0.0.0/8"], 1800.0))
        self.assertEqual((made["pool"], made["compress"], made["max_connections"]), (2, True, 5))

    async def test_refused(self) -> None:
        """What is wrong is one line."""
        ran = await self.ctl("proxies", "create", "nobody", "db:1", str(free_port()))
        self.assertEqual((ran.code, len(ran.err.splitlines())), (FAILED, 1))
        ran = await self.ctl("proxies", "create", "pc1", "db", "5000")
        self.assertEqual(ran.code, WRONG_USAGE)
