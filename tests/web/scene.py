"""
The API as a whole, on real sockets of this machine, over a daemon that is made up.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from proxyd.agents.proxies import Proxies
from proxyd.agents.registry import AgentRegistry
from proxyd.auth.issued import OwnSecret
from proxyd.auth.tokens import Tokens, TokenSettings
from proxyd.config.agents_model import Agents as AgentSettings
from proxyd.config.model import Listener
from proxyd.dial.direct import DirectDialer
from proxyd.dial.router import Router
from proxyd.errors import StartError
from proxyd.figures import Figure
from proxyd.net.resolver import Resolver
from proxyd.net.sessions import Session, Sessions
from proxyd.postgres.registered import Registered
from proxyd.rules.patterns import pattern
from proxyd.rules.routes import Rule, Rules
from proxyd.store.memory import MemoryStore
from proxyd.store.seal import Seal
from proxyd.target import Finding, Principal
from proxyd.web.api import Api
from proxyd.web.guard import Guard
from proxyd.web.local_socket import is_ours
from proxyd.web.metrics import Metrics
from proxyd.web.openapi import described
from proxyd.web.operations import Place
from proxyd.web.resources.agents import AgentsResource
from proxyd.web.resources.databases import Databases
from proxyd.web.resources.doctor import DoctorResource
from proxyd.web.resources.health import Health
from proxyd.web.resources.proxies import ProxiesResource
from proxyd.web.resources.proxy import Proxy
from proxyd.web.resources.routes import RoutesResource
from proxyd.web.resources.sessions import SessionsResource
from proxyd.web.resources.telling import Telling
from proxyd.web.resources.tokens import TokensResource
from proxyd.web.route import Resource, Route
from proxyd.web.service import Web

ADMIN = "admin-token-of-the-tests"
METRICS = "metrics-token-of-the-tests"
SECONDS = 30.0
LOOPBACK = Listener("127.0.0.1:0", "tcp", "127.0.0.1", 0)
JWT_SECRET = b"0123456789abcdef0123456789abcdef"


class FakeOperations:
    """
    A daemon that does nothing.

    @ivar problem: why a restart fails; empty: it does not
    @ivar restarting: a restart waits for it
    """

    def __init__(self) -> None:
        self.state = "ready"
        self.uptime = 12.5
        self.restarts = 0
        self.problem = ""
        self.restarting: Deferred[None] | None = None

    def places(self) -> Sequence[Place]:
        """One listener."""
        return [Place("postgres", "127.0.0.1:6432")]

    def pools(self) -> Sequence[dict[str, Any]]:
        """None."""
        return []

    def upstreams(self) -> Sequence[dict[str, Any]]:
        """None."""
        return []

    def restart(self) -> Deferred[None]:
        """Count it."""
        self.restarts += 1
        if self.problem:
            return fail(StartError(self.problem))
        return self.restarting or succeed(None)


class FakeSessions:
    """Sessions of one kind that only their numbers tell apart."""

    kind = "postgres"

    def __init__(self) -> None:
        self.users = {7: "ann", 9: "bob"}
        self.killed: list[tuple[int, str]] = []

    def count(self) -> int:
        """How many are left."""
        return len(self.users)

    def live(self) -> Iterator[Session]:
        """Those that are left."""
        for number, user in list(self.users.items()):
            yield self._session(number, user)

    def _session(self, number: int, user: str) -> Session:
        def kill(reason: str) -> None:
            del self.users[number]
            self.killed.append((number, reason))

        who = Principal(user, "192.0.2.7:5")
        began = reactor.seconds() - 60
        return Session(number, self.kind, who, "shop", "idle", None, 10, 20, began, kill)


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def value(self) -> Any:
        """Its JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """An error's word."""
        code: str = self.value["error"]["code"]
        return code


@implementer(IAgentEndpointFactory)
class _BySocket:
    def __init__(self, path: str) -> None:
        self._path = path

    def endpointForURI(self, uri: URI) -> UNIXClientEndpoint:
        """The socket, whatever the URI says."""
        return UNIXClientEndpoint(reactor, self._path)


class ApiTestCase(TestCase):
    """
    The API with all its calls, which is up.

    @ivar routes: its calls
    @ivar port: where it listens
    @ivar path: its UNIX socket
    """

    timeout = 120
    hosts: Sequence[str] = ("proxy.example",)

    async def setUp(self) -> None:
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        folder = tempfile.TemporaryDirectory(prefix="pxd")
        self.addCleanup(folder.cleanup)
        self.path = str(Path(folder.name) / "api.sock")
        self.operations = FakeOperations()
        self.findings = [("orders", Finding("login", True, "the server takes it"))]
        self.sessions = FakeSessions()
        self.metrics = Metrics(lambda: [Figure("sessions", "Live sessions", 2.0)])
        resources = await self.made_resources()
        self.routes: list[Route] = [route for one in resources for route in one.routes()]
        self.api = Api(self.routes, Guard(ADMIN, METRICS, self.hosts), reactor)
        self.web = Web(
            reactor,
            self.api,
            [LOOPBACK],
            self.path,
            None,
            self.metrics.counted,
            lambda user: self.lets_in(user),
        )
        self.web.open()
        self.web.startService()
        self.addCleanup(self.web.stopService)
        self.url = self.web.urls()[0]
        self.port = int(self.url.rpartition(":")[2])

    def router(self) -> Router:
        """Routes, with nothing behind them."""
        resolver: Any = Resolver(reactor)  # type: ignore[arg-type]
        rules = Rules((Rule((pattern("10.0.0.0/8"),), None, number=1),), "direct")
        direct = DirectDialer(reactor, resolver, SECONDS)  # type: ignore[arg-type]
        return Router(rules, {}, direct, resolver, reactor)  # type: ignore[arg-type]

    async def made_resources(self) -> list[Resource]:
        """Every subject there is, over a store in memory."""
        registry = Sessions()
        registry.add(self.sessions)
        store = MemoryStore()
        await store.open()
        self.addCleanup(store.close)
        registered = Registered(reactor, store, Seal(bytes(32)), lambda target: None)
        await registered.load()
        self.tokens = Tokens(
            reactor, store, OwnSecret(JWT_SECRET), TokenSettings(), lambda: ["orders"]
        )
        await self.tokens.load()
        self.store = store
        self.agents = AgentRegistry(reactor, store, AgentSettings(ports=(1024, 65535), grace=0.1))
        self.proxies = Proxies(
            reactor, store, self.agents, self.agents.settings, registry.next_number
        )
        self.proxies.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(self.proxies.stopService)
        return [
            Health(self.operations),
            Telling(self.metrics, lambda: described(self.routes)),
            Proxy(self.operations, registry),
            SessionsResource(registry, reactor),
            Databases(lambda: registered),
            RoutesResource(self.router()),
            TokensResource(self.tokens, reactor),
            AgentsResource(self.agents, lambda: "sha256:00"),
            ProxiesResource(self.proxies),
            DoctorResource(self.examine),
        ]

    async def examine(self, name: str | None) -> list[tuple[str, Finding]]:
        """What the doctor finds."""
        return [one for one in self.findings if name in (None, one[0])]

    def lets_in(self, user: int) -> bool:
        """Whether the UNIX socket is for this user."""
        return is_ours(user)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = ADMIN,
        headers: Mapping[str, str] | None = None,
        local: bool = False,
    ) -> Heard:
        """
        Make a call.

        @param body: bytes as they are, or what becomes JSON; None: no body
        @param token: None: without
        @param local: by the UNIX socket
        """
        pool = HTTPConnectionPool(reactor, persistent=False)
        if local:
            agent = Agent.usingEndpointFactory(reactor, _BySocket(self.path), pool)
        else:
            agent = Agent(reactor, pool=pool)
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token}")
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        answer = await treq.request(
            method, self.url + path, headers=sent, data=data, agent=agent, timeout=SECONDS
        )
        found = {
            name.decode().lower(): b", ".join(values).decode()
            for name, values in answer.headers.getAllRawHeaders()
        }
        return Heard(answer.code, found, await treq.content(answer))

    def lines(self, about: str) -> list[str]:
        """The lines of the log that have this in them."""
        return [line for line in map(formatEvent, self.logged) if about in line]

    def everything_logged(self) -> str:
        """All of the log, fields that no line shows too."""
        return "\n".join(f"{formatEvent(event)} {event!r}" for event in self.logged)

    async def until(self, seen: Callable[[], object]) -> None:
        """Wait until something is so."""
        end = reactor.seconds() + SECONDS
        while not seen():
            if reactor.seconds() > end:
                raise AssertionError("it did not come to be")
            await deferLater(reactor, 0.005)
