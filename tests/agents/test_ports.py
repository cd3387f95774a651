"""Tests for L{proxyd.agents.ports}: users of a reverse port, from the first byte to the last."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol

from proxyd.agents.ports import Port, PortSessions
from proxyd.net.sessions import Sessions
from tests.agents.scene import SETTINGS, AgentsTestCase, Target, free_port
from tests.support.streams import Party, until

reactor: Any = _reactor


class PortsTestCase(AgentsTestCase):
    """A port, and users of it."""

    async def user(self, port: Port) -> Party:
        """Somebody connects."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.settings.local_port)  # type: ignore[no-untyped-call]
        return await endpoint.connect(Factory.forProtocol(Party))  # type: ignore[no-any-return]


class UserTests(PortsTestCase):
    """What a user sees is what the target does."""

    async def test_echo(self) -> None:
        """Bytes both ways, counted on the port's account, and gone from it at the end."""
        await self.agent()
        port = await self.reverse(self.listen(Target()))
        user = await self.user(port)
        user.stream.write(b"hello")
        await until(lambda: user.received == 5, "the echo")
        self.assertEqual((port.received, port.sent, len(port.users)), (5, 5, 1))
        user.stream.loseConnection()
        await until(lambda: not port.users, "the user to be gone")
        self.assertEqual((port.received, port.sent, port.total), (5, 5, 1))

    async def test_half_close(self) -> None:
        """The user's end reaches the target, whose answer still comes."""

        class Answering(Party):
            def readConnectionLost(self) -> None:
                self.stream.write(b"you said %d bytes" % self.received)
                self.stream.loseConnection()

        await self.agent()
        user = await self.user(await self.reverse(self.listen(Target(Answering))))
        user.stream.write(b"x" * 100_000)
        user.stream.loseWriteConnection()
        await until(lambda: user.lost or "read" in user.events, "the answer's end")
        self.assertEqual(user.kept, b"you said 100000 bytes")
        user.stream.loseConnection()

    async def test_refused(self) -> None:
        """A target that refuses resets the user, and is counted."""
        await self.agent()
        port = await self.reverse(free_port())
        user = await self.user(port)
        await until(lambda: user.lost, "the reset")
        self.assertIsInstance(user.reason, ConnectionLost)
        self.assertEqual(dict(port.errors), {"connection refused": 1})

    async def test_reset(self) -> None:
        """A reset goes through, from the target to the user and back."""
        await self.agent()
        there = Target(Party)
        port = await self.reverse(self.listen(there))
        user = await self.user(port)
        await until(lambda: there.there, "the target")
        there.there[0].transport.abortConnection()
        await until(lambda: user.lost, "the reset")
        self.assertNotIsInstance(user.reason, ConnectionDone)
        user = await self.user(port)
        await until(lambda: there.there, "the target")
        (target,) = there.there
        user.stream.abortConnection()
        await until(lambda: target.lost, "the reset")
        self.assertNotIsInstance(target.reason, ConnectionDone)

    async def test_early_leave(self) -> None:
        """A user who goes before the target answers leaves nothing behind."""
        await self.agent(here=False)
        port = await self.reverse(self.listen(Target()))
        user = await self.user(port)
        user.stream.abortConnection()
        await until(lambda: not port.users, "the user to be gone")
        self.assertEqual(port.errors, {})


class LimitTests(PortsTestCase):
    """What a port may be told."""

    async def turned_away(self, port: Port) -> None:
        """A user who connects is gone at once."""
        user = await self.user(port)
        await until(lambda: user.lost or "read" in user.events, "the end")
        user.stream.loseConnection()

    async def test_allow(self) -> None:
        """Addresses that are not on its list."""
        await self.agent()
        remote = self.listen(Target())
        port = await self.reverse(remote, allow=(ip_network("192.0.2.0/24"),))
        await self.turned_away(port)
        self.assertEqual(dict(port.errors), {"not allowed": 1})
        port = await self.reverse(remote, allow=(ip_network("127.0.0.0/8"),))
        user = await self.user(port)
        user.stream.write(b"x")
        await until(lambda: user.received, "the echo")
        user.stream.abortConnection()

    async def test_max_connections(self) -> None:
        """One user more than there may be."""
        await self.agent()
        port = await self.reverse(self.listen(Target()), max_connections=1)
        user = await self.user(port)
        await until(lambda: port.users, "the first")
        await self.turned_away(port)
        self.assertEqual(dict(port.errors), {"limit": 1})
        user.stream.abortConnection()

    async def test_idle(self) -> None:
        """A user who says nothing."""
        await self.agent()
        port = await self.reverse(self.listen(Target()), idle_timeout=0.5)
        user = await self.user(port)
        await until(lambda: user.lost, "the end")
        self.assertEqual(dict(port.errors), {"idle": 1})

    async def test_bandwidth(self) -> None:
        """So many bytes a second each way, for all users together."""
        await self.agent()
        port = await self.reverse(self.listen(Target()), bandwidth=400_000)
        began = reactor.seconds()
        users = [await self.user(port) for _ in range(2)]
        for user in users:
            user.stream.write(b"x" * 300_000)
        await until(lambda: all(user.received == 300_000 for user in users), "the echoes")
        # What a rate saves up for a moment comes free: a tenth of a second's bytes.
        self.assertGreaterEqual(
            reactor.seconds() - began, (600_000 - 2 * 65_536 - 40_000) / 400_000
        )
        for user in users:
            user.stream.abortConnection()

    async def test_proxy_protocol(self) -> None:
        """The target is told who the user is, before anything else."""
        await self.agent()
        there = Target(Party)
        for version, start in (
            ("v1", b"PROXY TCP4 127.0.0.1 127.0.0.1 "),
            ("v2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11"),
        ):
            port = await self.reverse(self.listen(there), proxy_protocol=version)
            user = await self.user(port)
            user.stream.write(b"hello")
            await until(lambda: there.there and there.there[0].kept.endswith(b"hello"), "the bytes")
            kept = there.there[0].kept
            self.assertTrue(kept.startswith(start), kept)
            if version == "v1":
                number = user.stream.getHost().port
                self.assertIn(b" %d %d\r\nhello" % (number, port.settings.local_port), kept)
            user.stream.abortConnection()
            await until(lambda: not there.there, "the target to be alone")

    async def test_pool(self) -> None:
        """Connections that are made ahead: a user has one at once, and another is made."""
        await self.agent()

        class Greeting(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"welcome")

        there = Target(Greeting)
        port = await self.reverse(self.listen(there), pool=2)
        await until(lambda: len(there.there) == 2, "two made ahead")
        user = await self.user(port)
        await until(lambda: user.kept == b"welcome", "the greeting")
        await until(lambda: len(there.there) == 3, "another one")
        user.stream.abortConnection()

    async def test_compress(self) -> None:
        """What can be compressed is fewer bytes on the agent's wire."""
        agent = await self.agent()
        assert agent.session is not None
        port = await self.reverse(self.listen(Target()), compress=True)
        user = await self.user(port)
        user.stream.write(b"SELECT 1;\n" * 20_000)
        await until(lambda: user.received == 200_000, "the echo")
        self.assertLess(agent.session.received + agent.session.sent, 100_000)
        user.stream.abortConnection()


class AbsenceTests(PortsTestCase):
    """The agent is not there, goes, comes back, or is another."""

    async def test_user_waits(self) -> None:
        """A user who comes before the agent is served when it comes."""
        self.tokens["pc1"] = await self.registry.add("pc1")
        port = await self.reverse(self.listen(Target()))
        user = await self.user(port)
        user.stream.write(b"early")
        await self.agent()
        await until(lambda: user.kept == b"early", "the echo")
        user.stream.abortConnection()

    async def test_agent_lost(self) -> None:
        """Users of a lost agent are reset; the port stays, and serves when it is back."""
        agent = await self.agent()
        port = await self.reverse(self.listen(Target()))
        user = await self.user(port)
        await until(lambda: agent.session is not None and agent.session.streams, "the stream")
        agent.stopService()
        await until(lambda: user.lost, "the reset")
        self.assertNotIsInstance(user.reason, ConnectionDone)
        await self.agent()
        user = await self.user(port)
        user.stream.write(b"again")
        await until(lambda: user.kept == b"again", "the echo")
        user.stream.abortConnection()

    async def test_takeover(self) -> None:
        """A newer connection of the same agent takes over; the old one's users are reset."""
        old = await self.agent()
        port = await self.reverse(self.listen(Target()))
        user = await self.user(port)
        await until(lambda: old.session is not None and old.session.streams, "the stream")
        before = self.registry.lost
        new = await self.agent(here=False)
        await until(lambda: self.registry.lost > before, "the old one to go")
        await until(lambda: user.lost, "the reset")
        old.stopService()
        await until(lambda: new.session is not None, "the new one")
        user = await self.user(port)
        user.stream.write(b"again")
        await until(lambda: user.kept == b"again", "the echo")
        user.stream.abortConnection()

    async def test_several(self) -> None:
        """Of several agents another one serves when the first is gone."""
        first = await self.agent("pc1")
        await self.agent("pc2")
        port = await self.reverse(self.listen(Target()), ("pc1", "pc2"))
        first.stopService()
        await until(lambda: not self.registry.is_here(["pc1"]), "the first to go")
        user = await self.user(port)
        user.stream.write(b"x")
        await until(lambda: user.received, "the echo")
        user.stream.abortConnection()

    async def test_many_slow(self) -> None:
        """Readers who never read hold up nobody else."""

        class Pouring(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"p" * (8 << 20))

        await self.agent()
        slow = await self.reverse(self.listen(Target(Pouring)))
        quick = await self.reverse(self.listen(Target()))
        stuck = [await self.user(slow) for _ in range(4)]
        for user in stuck:
            user.stream.pauseProducing()
        user = await self.user(quick)
        user.stream.write(b"x" * 500_000)
        await until(lambda: user.received == 500_000, "the echo")
        for one in (*stuck, user):
            one.stream.abortConnection()


class WaitTests(PortsTestCase):
    """Nobody comes within the grace."""

    settings = replace(SETTINGS, grace=0.1)

    async def test_reset(self) -> None:
        """The user is reset, and the port counts it."""
        await self.registry.add("pc1")
        port = await self.reverse(1)
        user = await self.user(port)
        await until(lambda: user.lost, "the reset")
        self.assertEqual(sum(port.errors.values()), 1)


class DrainTests(PortsTestCase):
    """At a stop."""

    async def test_drain(self) -> None:
        """Nobody new comes in; who is in goes on, and its end is the drain's."""
        await self.agent()
        port = await self.reverse(self.listen(Target()))
        user = await self.user(port)
        user.stream.write(b"before")
        await until(lambda: user.received == 6, "the echo")
        draining = port.drain()
        with self.assertRaises(ConnectError):
            await self.user(port)
        user.stream.write(b"after")
        await until(lambda: user.received == 11, "the echo")
        self.assertFalse(draining.called)
        user.stream.loseConnection()
        await draining
        self.assertTrue(port.drain().called)


class SessionsTests(PortsTestCase):
    """Users in the registry of sessions."""

    async def test_listed_and_killed(self) -> None:
        """Each is there with its bytes, and can be ended."""
        await self.agent()
        port = await self.reverse(self.listen(Target()))
        sessions = Sessions()
        sessions.add(PortSessions(lambda: iter(self.proxies)))
        user = await self.user(port)
        user.stream.write(b"hello")
        await until(lambda: user.received == 5, "the echo")
        (session,) = sessions
        self.assertEqual((session.kind, session.received, session.sent), ("agent", 5, 5))
        self.assertIn(str(port.settings.remote_port), session.target)
        session.kill("an admin wants it")
        await until(lambda: user.lost, "the end")
        self.assertEqual(sessions.counts(), {"agent": 0})

    async def test_read_in_steps(self) -> None:
        """A long list is read in steps, while users come and go."""
        await self.agent()
        port = await self.reverse(self.listen(Target()))
        sessions = Sessions()
        sessions.add(PortSessions(lambda: iter(self.proxies)))
        first = await self.user(port)
        await self.user(port)
        await until(lambda: sessions.counts() == {"agent": 2}, "both users")
        found = sessions.as_they_are()
        next(found)
        first.stream.loseConnection()
        await until(lambda: sessions.counts() == {"agent": 1}, "one to leave")
        self.assertEqual(len(list(found)), 1)
