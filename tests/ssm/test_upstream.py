"""Tests for L{proxyd.ssm.upstream}: forwarding through instances, without SSH."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from twisted.internet.protocol import Protocol
from zope.interface.verify import verifyObject

from proxyd.errors import DialError, DialFailure, StartError
from proxyd.interfaces import IUpstream
from proxyd.session_source import ISessionSource
from proxyd.ssm.ports import MOST_KEPT
from proxyd.target import Target
from proxyd.wire.ssm.channel import WINDOW
from tests.ssm.scene import ANN, BULK_SECONDS, SsmCase
from tests.support.seeds import printed_seed
from tests.support.streams import Party, Pump, turns, until


class SsmUpstreamTests(SsmCase):
    """Streams, sessions, failures."""

    timeout = BULK_SECONDS

    async def test_interface(self) -> None:
        """It is what it says, and so is what it stands on."""
        peer = self.peer()
        ground = self.ground(peer)
        self.assertTrue(verifyObject(ISessionSource, ground.source))
        upstream = self.forwarding(peer, ground=ground)
        self.assertTrue(verifyObject(IUpstream, upstream))
        await upstream.ready()
        self.assertEqual(upstream.status().state, "up")

    async def test_one_session_for_a_destination(self) -> None:
        """Streams to one destination share a session; another destination has its own."""
        peer = self.peer()
        upstream = self.forwarding(peer)
        one, other = await self.target(), await self.target()
        streams = [await self.through(upstream, one) for _ in range(5)]
        streams.append(await self.through(upstream, other))
        for near in streams:
            await self.says_back(near, b"hello")
        self.assertEqual(peer.api.asked.count("StartSession"), 2)
        session = next(iter(peer.sessions.values()))
        self.assertEqual(session.document, "AWS-StartPortForwardingSessionToRemoteHost")
        self.assertEqual(
            session.parameters,
            {"host": "127.0.0.1", "portNumber": str(one.port), "localPortNumber": "0"},
        )
        found = upstream.status().instances[0]
        self.assertEqual((found.sessions, found.streams), (2, 6))
        for near in streams:
            near.stream.loseConnection()
            await self.ended(near)
        self.assertEqual(upstream.status().instances[0].streams, 0)

    async def test_sessions_side_by_side(self) -> None:
        """Streams are spread over as many sessions as are wanted."""
        peer = self.peer()
        upstream = self.forwarding(peer, sessions=3)
        target = await self.target()
        for _ in range(6):
            await self.says_back(await self.through(upstream, target), b"x")
        self.assertEqual(len(peer.sessions), 3)
        self.assertEqual([len(one.targets) for one in peer.sessions.values()], [2, 2, 2])

    async def test_idle(self) -> None:
        """A session without streams is ended after a while, by its agent and by AWS."""
        peer = self.peer()
        upstream = self.forwarding(peer, idle=0.05)
        near = await self.through(upstream, await self.target())
        await self.says_back(near, b"x")
        near.stream.loseConnection()
        await until(lambda: "TerminateSession" in peer.api.asked, "the end of the session")
        self.assertEqual(upstream.status().instances[0].sessions, 0)
        self.assertTrue(all(one.over for one in peer.sessions.values()))

    async def test_refused(self) -> None:
        """A port that is closed is told as that, and the session stays good."""
        peer = self.peer()
        upstream = self.forwarding(peer)
        closed = await self.target()
        peer.instances["i-1"].ports[closed.port] = 1
        problem = await self.dial_fails(self.through(upstream, closed))
        self.assertEqual(problem.failure, DialFailure.REFUSED)
        self.assertIn(f"127.0.0.1:{closed.port}", problem.detail)
        del peer.instances["i-1"].ports[closed.port]
        await self.says_back(await self.through(upstream, closed), b"x")
        self.assertEqual(peer.api.asked.count("StartSession"), 1)

    async def test_name_and_forbidden(self) -> None:
        """What the agent says of a name or an address is the target's fault, not the way's."""
        upstream = self.forwarding(self.peer("i-1", "i-2"))
        for host, failure in (
            ("nosuch.invalid", DialFailure.NAME),
            ("169.254.169.254", DialFailure.DENIED),
        ):
            problem = await self.dial_fails(self.through(upstream, Target(host, 80)))
            self.assertEqual(problem.failure, failure, problem.detail)
            self.assertIn(f"{host}:80 by i-", problem.detail)

    async def test_name_goes_unresolved(self) -> None:
        """A name is looked up by the agent."""
        peer = self.peer()
        peer.instances["i-1"].names["db.internal"] = "127.0.0.1"
        target = await self.target()
        near = await self.through(self.forwarding(peer), Target("db.internal", target.port))
        await self.says_back(near, b"x")

    async def test_failover(self) -> None:
        """An instance that is not online, or is killed, is passed over; the next one serves."""
        peer = self.peer("i-1", "i-2")
        upstream = self.forwarding(peer)
        target = await self.target()
        await until(
            lambda: all(one.state == "connected" for one in upstream.status().instances), "both"
        )
        near = await self.through(upstream, target)
        await self.says_back(near, b"x")
        peer.kill("i-1")
        await self.ended(near)
        near = await self.through(upstream, target)
        await self.says_back(near, b"y")
        self.assertIs(list(peer.sessions.values())[-1].manners, peer.instances["i-2"])
        peer.kill("i-2")
        problem = await self.dial_fails(self.through(upstream, target))
        self.assertEqual(problem.failure, DialFailure.BROKEN)
        self.assertIn("i-1: ", problem.detail)
        self.assertIn("not online in SSM", problem.detail)
        peer.instances["i-1"].alive = True

        while (found := await self._perhaps(upstream, target)) is None:
            await turns(20)
        await self.says_back(found, b"z")

    async def _perhaps(self, upstream: Any, target: Target) -> Party | None:
        """A stream, if the upstream is up."""
        try:
            return await self.through(upstream, target)
        except DialError:
            return None

    async def test_credentials_at_the_start(self) -> None:
        """Without credentials, what must be up at the start is not, and says why."""
        upstream = self.forwarding(self.peer(), profile="nobody")
        try:
            await upstream.ready()
        except StartError as problem:
            self.assertIn("the config profile (nobody) could not be found", str(problem).lower())
        else:
            self.fail("it is up")

    async def test_bulk_in_bad_weather(self) -> None:
        """Both ways with equal checksums at 1 % loss, 5 % reordered, 5 % twice; sockets cut."""
        peer = self.peer(seed=printed_seed("SSM in bad weather"))
        await self.bulk_in_bad_weather(peer, self.forwarding(peer))

    async def test_stuck_reader_does_not_harm_others(self) -> None:
        """A stream that nobody reads is bounded, and cut off when it holds up another one."""
        peer = self.peer()
        upstream = self.forwarding(peer, stuck=0.3)
        source = Party()
        target = await self.taken_by(source)
        stuck = await self.through(upstream, target)
        stuck.stream.pauseProducing()
        await until(lambda: "made" in source.events, "the source")
        pump = Pump(source.stream, 40_000_000)
        await until(lambda: stuck.stream.kept > MOST_KEPT, "what is kept")
        other = Party()
        dialling = upstream.endpoint_for(target, ANN)
        self.assertTrue(dialling)
        self.assertLess(stuck.stream.kept, MOST_KEPT + 2 * WINDOW)
        self.assertEqual(stuck.received, 0)
        # It is alone in its session: it may take as long as it likes.
        stuck.stream.resumeProducing()
        before = pump.sent
        await until(lambda: pump.sent > before, "more")
        pump.stopped = True
        self.assertFalse(other.lost)

    async def test_large_answer_after_our_end(self) -> None:
        """A client that sends no more still gets its whole answer: no FIN is said for it."""
        answer = os.urandom(300_000)

        class Answers(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(answer)
                self.transport.loseConnection()

        upstream = self.forwarding(self.peer())
        near = await self.through(upstream, await self.target(Answers))
        near.stream.write(b"GET")
        near.stream.loseWriteConnection()
        await self.ended(near)
        self.assertEqual(near.digest.digest(), hashlib.sha256(answer).digest())

    async def test_stopped(self) -> None:
        """A stop ends all sessions, and says so to AWS."""
        peer = self.peer()
        upstream = self.forwarding(peer)
        near = await self.through(upstream, await self.target())
        await self.says_back(near, b"x")
        await upstream.stopService()
        await self.ended(near)
        self.assertEqual(peer.api.asked.count("TerminateSession"), 1)
        problem = await self.dial_fails(self.through(upstream, Target("127.0.0.1", 1)))
        self.assertIn("is stopped", problem.detail)
