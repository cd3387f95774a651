"""A registry, a listener and agents, all real, on loopback, for the tests of this folder."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from proxyd.agents.agent import Agent
from proxyd.agents.allow import AllowList
from proxyd.agents.ports import Port
from proxyd.agents.proxies import Proxies
from proxyd.agents.registry import AgentRegistry
from proxyd.agents.websocket import AgentServerFactory
from proxyd.config.agents_model import Agents, AgentTimes, ReversePort
from proxyd.dial.direct import DirectDialer
from proxyd.net.resolver import Resolver
from proxyd.store.memory import MemoryStore
from tests.support.streams import until

reactor: Any = _reactor

SWIFT = AgentTimes(keepalive=15.0, dial=20.0, retry_first=0.05, retry_longest=0.2)
SETTINGS = Agents(grace=20.0, times=SWIFT)


class Echo(Protocol):
    """A target that says back what it hears."""

    def dataReceived(self, data: bytes) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(data)


class Target(Factory):
    """What is connected to; knows who is there."""

    noisy = False

    def __init__(self, protocol: type[Protocol] = Echo) -> None:
        self.protocol = protocol
        self.there: list[Any] = []

    def buildProtocol(self, addr: object) -> IProtocol:
        """Somebody comes."""
        made: Any = self.protocol()
        lost = made.connectionLost
        made.factory = self

        def forget(reason: Failure = connectionDone) -> None:
            self.there.remove(made)
            lost(reason)

        made.connectionLost = forget
        self.there.append(made)
        return made  # type: ignore[no-any-return]


def free_port(but: int = 0) -> int:
    """A port that nobody has; C{but}: another one than this."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = int(bound.getsockname()[1])
    return port if port != but else free_port(but)


class AgentsTestCase(TestCase):
    """
    A listener for agents; nothing is left at the end.

    @ivar registry: who may come, and who is here
    @ivar proxies: the ports
    @ivar place: where agents come to
    """

    timeout = 100
    settings = SETTINGS

    async def setUp(self) -> None:
        """Open the listener."""
        self.store = MemoryStore()
        await self.store.open()
        self.registry = AgentRegistry(reactor, self.store, self.settings)
        await self.registry.load()
        self.registry.startService()  # type: ignore[no-untyped-call]
        numbers = itertools.count(1)
        self.proxies = Proxies(reactor, self.store, self.registry, self.settings, numbers.__next__)
        self.proxies.startService()  # type: ignore[no-untyped-call]
        self.resolver = Resolver(reactor)
        self.resolver.startService()  # type: ignore[no-untyped-call]
        factory = AgentServerFactory(self.registry.admit, self.registry.opened, 100)
        self.door = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.place = f"ws://127.0.0.1:{self.door.getHost().port}/agent"
        self.agents: list[Agent] = []
        self.tokens: dict[str, str] = {}

    async def tearDown(self) -> None:
        """Close everything, and see that nobody is left."""
        await self.proxies.stopService()
        for agent in self.agents:
            if agent.running:
                agent.stopService()
        self.registry.stopService()
        await self.door.stopListening()
        self.resolver.stopService()
        await until(lambda: not self.sockets(), "no socket to be left")

    def sockets(self) -> list[Any]:
        """Sockets that the reactor has."""
        kinds = (socket.AF_INET, socket.AF_INET6)
        return [
            one
            for one in reactor.getReaders()
            if getattr(one, "socket", None) is not None and one.socket.family in kinds
        ]

    def listen(self, factory: Factory) -> int:
        """A target's port."""
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def agent(
        self, client_id: str = "pc1", allow: Iterable[str] = (), here: bool = True
    ) -> Agent:
        """An agent, started; waits until it is here."""
        if client_id not in self.tokens:
            self.tokens[client_id] = await self.registry.add(client_id)
        agent = Agent(
            reactor,
            self.place,
            self.tokens[client_id],
            DirectDialer(reactor, self.resolver, 20.0),
            self.resolver,
            AllowList(allow),
            lambda: 0.5,
            {},
            client_id=client_id,
            times=SWIFT,
        )
        self.agents.append(agent)
        agent.startService()
        if here:
            await until(lambda: agent.session is not None, "the agent to be connected")
            await until(lambda: self.registry.is_here([client_id]), "the agent to be here")
        return agent

    async def reverse(
        self, remote: int, client_ids: Iterable[str] = ("pc1",), **settings: Any
    ) -> Port:
        """A reverse port to a port of loopback."""
        wanted = ReversePort(tuple(client_ids), "127.0.0.1", remote, free_port(remote))
        return await self.proxies.create(replace(wanted, **settings))
