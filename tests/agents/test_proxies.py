"""Tests for L{proxyd.agents.proxies}: ports that are made, kept, and opened again."""

from __future__ import annotations

import itertools
import socket
from dataclasses import replace
from ipaddress import ip_network

from twisted.internet import reactor

from proxyd.agents.proxies import Proxies
from proxyd.config.agents_model import ReversePort
from proxyd.errors import StartError
from proxyd.records import Conflict, Invalid, ProxyRecord, Unknown
from tests.agents.scene import SETTINGS, AgentsTestCase, free_port
from tests.support.streams import until

WHOLE = ReversePort(
    ("pc1", "pc2"), "192.168.1.100", 3389, 1, "127.0.0.1", "tcp", (ip_network("10.0.0.0/8"),),
    10_000_000, 5, 60.0, "v2", 2, True,
)  # fmt: skip


class ProxiesTests(AgentsTestCase):
    """By the API."""

    async def setUp(self) -> None:
        """Two agents may come."""
        await super().setUp()
        for client_id in ("pc1", "pc2"):
            await self.registry.add(client_id)

    def again(self) -> Proxies:
        """The same store, after a restart."""
        proxies = Proxies(
            reactor, self.store, self.registry, self.settings, itertools.count(1).__next__
        )
        proxies.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(proxies.stopService)
        return proxies

    async def test_restart(self) -> None:
        """What was made is there again, word for word."""
        made = await self.proxies.create(replace(WHOLE, local_port=free_port()))
        await self.proxies.stopService()
        proxies = self.again()
        await proxies.open_kept()
        (port,) = proxies
        self.assertEqual((port.proxy_id, port.settings), (made.proxy_id, made.settings))

    async def test_removed(self) -> None:
        """What was removed is not, and its port is free."""
        made = await self.proxies.create(replace(WHOLE, local_port=free_port()))
        await self.proxies.remove(made.proxy_id)
        self.assertEqual(list(self.proxies), [])
        proxies = self.again()
        await proxies.open_kept()
        self.assertEqual(list(proxies), [])
        with self.assertRaises(Unknown):
            await proxies.remove(made.proxy_id)

    async def test_unknown_agent(self) -> None:
        """An agent that may not come."""
        with self.assertRaises(Unknown) as caught:
            await self.proxies.create(replace(WHOLE, client_ids=("pc1", "nobody")))
        self.assertIn("there is no agent nobody", str(caught.exception))

    async def test_taken(self) -> None:
        """A port that somebody has: nothing is kept of it."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with self.assertRaises(Conflict) as caught:
                await self.proxies.create(replace(WHOLE, local_port=taken.getsockname()[1]))
        self.assertIn("Address already in use", str(caught.exception))
        self.assertEqual(await self.store.proxies(), [])

    async def test_range(self) -> None:
        """A port outside of C{agents.ports}."""
        self.proxies.settings = replace(SETTINGS, ports=(10_000, 20_000))
        for number in (9_999, 20_001):
            with self.assertRaises(Invalid):
                await self.proxies.create(replace(WHOLE, local_port=number))

    async def test_kept_and_broken(self) -> None:
        """A record that can't be read, or whose port is taken, costs a line, and no start."""
        await self.store.add_proxy(ProxyRecord("a", "{", 1))
        await self.store.add_proxy(ProxyRecord("b", "{}", 1))
        proxies = self.again()
        await proxies.open_kept()
        self.assertEqual(list(proxies), [])


class ConfiguredTests(AgentsTestCase):
    """By the configuration."""

    async def test_reload(self) -> None:
        """Ports come and go; one that is unchanged stays as it is."""
        one, two = (replace(WHOLE, local_port=free_port()) for _ in range(2))
        self.proxies.settings = replace(SETTINGS, proxies=(one,))
        self.proxies.open_configured()
        (kept,) = self.proxies
        self.proxies.adopt(replace(SETTINGS, proxies=(one, two)))
        self.assertEqual([port.settings for port in self.proxies], [one, two])
        self.assertIs(self.proxies.find(kept.proxy_id), kept)
        self.proxies.adopt(replace(SETTINGS, proxies=(two,)))
        self.assertEqual([port.settings for port in self.proxies], [two])

    async def test_reload_changed(self) -> None:
        """A port that leads elsewhere after a reload is closed, and opened again."""
        one = replace(WHOLE, local_port=free_port())
        two = replace(one, remote_port=one.remote_port + 1)
        self.proxies.settings = replace(SETTINGS, proxies=(one,))
        self.proxies.open_configured()
        self.proxies.adopt(replace(SETTINGS, proxies=(two,)))
        await until(lambda: [port.settings for port in self.proxies] == [two], "the new port")

    async def test_not_by_the_api(self) -> None:
        """One of the file can't be deleted by the API."""
        one = replace(WHOLE, local_port=free_port())
        self.proxies.settings = replace(SETTINGS, proxies=(one,))
        self.proxies.open_configured()
        (port,) = self.proxies
        with self.assertRaises(Invalid):
            await self.proxies.remove(port.proxy_id)

    async def test_taken(self) -> None:
        """At the start a port that is taken is one line."""
        one = replace(WHOLE, local_port=free_port())
        self.proxies.settings = replace(SETTINGS, proxies=(one, replace(one, remote_port=1)))
        self.assertRaises(StartError, self.proxies.open_configured)
