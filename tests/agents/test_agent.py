"""Tests for L{proxyd.agents.agent}: it dials out, stays, and comes back."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd import __version__
from proxyd.agents.agent import Agent
from proxyd.agents.allow import AllowList
from proxyd.dial.direct import DirectDialer
from proxyd.errors import StartError
from tests.agents.scene import SWIFT, AgentsTestCase, Target, reactor
from tests.support.streams import until


class LifeTests(AgentsTestCase):
    """Over losses, refusals and proxies."""

    async def test_comes_back(self) -> None:
        """A connection that is cut is made again."""
        agent = await self.agent()
        first = agent.session
        assert first is not None
        first._wire.abort()
        await until(lambda: agent.session not in (None, first), "another session")
        await until(lambda: self.registry.is_here(["pc1"]), "the agent")

    async def test_hello(self) -> None:
        """Each end says who it is: a session's name is new each time, its number goes up."""
        agent = await self.agent()
        await until(lambda: agent.session and agent.session.hello.generation == 1, "the HELLO")
        assert agent.session is not None
        first = agent.session.hello
        agent.session._wire.abort()
        await until(lambda: agent.session and agent.session.hello.generation == 2, "the next")
        assert agent.session is not None
        self.assertNotEqual(agent.session.hello.session, first.session)
        here = self.registry._here["pc1"].session
        await until(lambda: here.hello.generation, "the agent's own HELLO")
        self.assertEqual((here.hello.session, here.hello.generation), (first.session, 1))
        (status,) = self.registry.status()
        self.assertEqual(status.version, f"proxyd-agent/{__version__}")

    async def test_wrong_token(self) -> None:
        """It says what the server said, never the token, and tries again."""
        self.tokens["pc1"] = "wrong-token-of-mine"
        with capturedLogs() as events:
            await self.agent(here=False)
            await until(lambda: len(self.said(events)) > 1, "two tries")
        self.assertIn("401", self.said(events)[0])
        self.assertNotIn("wrong-token", "".join(self.said(events)))

    def said(self, events: Any) -> list[str]:
        """The errors."""
        return [formatEvent(one) for one in events if one["log_level"].name == "error"]

    async def test_http_proxy(self) -> None:
        """Through a corporate proxy, when the environment names one."""
        asked: list[bytes] = []

        class Corporate(Protocol):
            """An HTTP proxy that only knows CONNECT."""

            other: Any = None
            got = b""

            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                if self.other is not None:
                    self.other.transport.write(data)
                    return
                self.got += data
                if b"\r\n\r\n" in self.got:
                    asked.append(self.got)
                    place = self.got.split(b" ")[1].decode()
                    host, _, port = place.rpartition(":")
                    near = self.transport

                    class There(Protocol):
                        def dataReceived(self, data: bytes) -> None:
                            near.write(data)

                        def connectionLost(self, reason: object = None) -> None:
                            near.loseConnection()

                    self.other = There()
                    factory = Factory.forProtocol(lambda: self.other)
                    factory.startedConnecting = factory.clientConnectionLost = lambda *_: None  # type: ignore[attr-defined]
                    reactor.connectTCP(host, int(port), factory)
                    near.write(b"HTTP/1.1 200 OK\r\n\r\n")

            def connectionLost(self, reason: object = None) -> None:
                if self.other is not None and self.other.transport is not None:
                    self.other.transport.loseConnection()

        port = self.listen(Target(Corporate))
        token = await self.registry.add("pc1")
        agent = Agent(
            reactor, self.place, token, DirectDialer(reactor, self.resolver, 20.0), self.resolver,
            AllowList(), lambda: 0.5, {"http_proxy": f"http://ann:secret@127.0.0.1:{port}"},
            times=SWIFT,
        )  # fmt: skip
        self.agents.append(agent)
        agent.startService()
        await until(lambda: self.registry.is_here(["pc1"]), "the agent")
        self.assertTrue(asked[0].startswith(b"CONNECT 127.0.0.1:"), asked)
        word = base64.b64encode(b"ann:secret")
        self.assertIn(b"\r\nProxy-Authorization: Basic " + word, asked[0])


class UrlTests(SynchronousTestCase):
    """Where it dials."""

    def test_bad(self) -> None:
        """What is no URL of a server."""
        for url in ("http://a/agent", "a:1", "wss://", ""):
            with self.assertRaises(StartError):
                Agent(reactor, url, "t", None, None, AllowList(), lambda: 0.5, {})  # type: ignore[arg-type]

    def test_whole(self) -> None:
        """The port and the path may be left out."""
        for url, expected in (
            ("wss://h", "wss://h:443/agent?client_id=pc1"),
            ("ws://h:81/", "ws://h:81/agent?client_id=pc1"),
            ("wss://[::1]:8443/agent", "wss://[::1]:8443/agent?client_id=pc1"),
        ):
            agent = Agent(
                reactor,
                url,
                "t",
                None,
                None,
                AllowList(),
                lambda: 0.5,
                {},
                client_id="pc1",  # type: ignore[arg-type]
            )
            self.assertEqual(agent._url, expected)
