"""Tests for L{proxyd.ssm.way}: a real SSH server behind an instance's agent."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IStreamClientEndpoint

from proxyd.app.ssm import ssh_in_instances
from proxyd.config.ways import Ssh, Upstream
from proxyd.errors import DialFailure
from proxyd.ssh.upstream import SshUpstream
from proxyd.ssm.way import InstancePort
from proxyd.target import Target
from tests.ssh.scene import ANN, PULSE, SWIFT
from tests.ssm.scene import BULK_SECONDS, SsmCase
from tests.support.seeds import printed_seed
from tests.support.ssm_peer import SsmPeer, Weather
from tests.support.streams import StreamConformance, until


class SshOverSsmCase(SsmCase):
    """SSH upstreams over sessions."""

    def over(self, peer: SsmPeer, *, sshd: Any = None, **words: Any) -> SshUpstream:
        """An upstream by SSH inside sessions; words change times."""
        server = sshd or self.sshd()
        sessions = words.pop("sessions", 1)
        ground = self.ground(peer, **words)
        for manners in peer.instances.values():
            manners.ports[22] = server.port
        settings = Upstream("office", ssh=Ssh(), instances=tuple(peer.instances))
        upstream = ssh_in_instances(
            settings,
            self.login(server),
            ground,
            reactor,
            sessions=sessions,
            times=SWIFT,
            pulse=PULSE,
            timeout=40.0,
        )
        upstream.startService()
        self.addCleanup(upstream.stopService)
        return upstream


class InstancePortTests(SshOverSsmCase):
    """The whole way to a target by SSH in a session."""

    timeout = BULK_SECONDS

    async def test_echo(self) -> None:
        """A connection through it; the session is an SSH session, and is ended at the end."""
        peer = self.peer()
        upstream = self.over(peer)
        near = await self.through(upstream, await self.target())
        await self.says_back(near, b"hello")
        session = next(iter(peer.sessions.values()))
        self.assertEqual(session.document, "AWS-StartSSHSession")
        self.assertEqual(session.parameters, {"portNumber": "22"})
        near.stream.loseConnection()
        await self.ended(near)
        await upstream.stopService()
        await until(lambda: "TerminateSession" in peer.api.asked, "the end of the session")

    async def test_stopped(self) -> None:
        """A stop waits until AWS knows that all sessions are over, however far it is."""
        peer = self.peer("i-1", "i-2")
        upstream = self.over(peer, sessions=2)
        await until(
            lambda: [one.sessions for one in upstream.status().instances] == [2, 2], "all of SSH"
        )
        peer.weather = Weather(delay=0.1)
        await upstream.stopService()
        self.assertGreaterEqual(len(peer.sessions), 4)
        self.assertEqual(
            peer.api.asked.count("TerminateSession"), peer.api.asked.count("StartSession")
        )
        self.assertEqual([one for one in peer.sessions.values() if not one.over], [])

    async def test_sessions(self) -> None:
        """Each of several sessions has an SSH connection of its own, and streams are spread."""
        peer = self.peer()
        upstream = self.over(peer, sessions=3)
        await until(lambda: upstream.status().instances[0].sessions == 3, "three sessions")
        target = await self.target()
        for _ in range(6):
            await self.says_back(await self.through(upstream, target), b"x")
        self.assertEqual(len(peer.sessions), 3)

    async def test_cut_and_resumed(self) -> None:
        """A lost socket is resumed under a live SSH connection; its users don't notice."""
        peer = self.peer()
        upstream = self.over(peer)
        near = await self.through(upstream, await self.target())
        for _ in range(3):
            await self.says_back(near, b"x" * 10_000)
            near.stream.write(b"y" * 10_000)
            before = peer.api.asked.count("ResumeSession")
            peer.cut()
            await until(
                lambda before=before: peer.api.asked.count("ResumeSession") > before, "a resume"
            )
            await self.says_back(near, b"z" * 10_000)
        await until(lambda: near.received == 90_000, "every byte, once")
        self.assertEqual(len(peer.sessions), 1)

    async def test_bulk_in_bad_weather(self) -> None:
        """The same with SSH between, whose own checksums would tell of any wrong byte."""
        peer = self.peer(seed=printed_seed("SSH over SSM in bad weather"))
        upstream = self.over(peer)
        await upstream.ready()
        await self.bulk_in_bad_weather(peer, upstream)

    async def test_failover(self) -> None:
        """The instance is killed: the next one takes new connections."""
        peer = self.peer("i-1", "i-2")
        upstream = self.over(peer)
        await until(lambda: upstream.status().state == "up", "the upstream")
        target = await self.target()
        await until(
            lambda: all(one.state == "connected" for one in upstream.status().instances), "both"
        )
        near = await self.through(upstream, target)
        await self.says_back(near, b"x")
        peer.kill("i-1")
        await self.ended(near)
        await self.says_back(await self.through(upstream, target), b"x")
        self.assertEqual(upstream.status().in_use, "i-2")
        await until(
            lambda: "not online in SSM" in upstream.status().instances[0].last_error,
            "the next try of the first to say why not",
        )

    async def test_silent_port(self) -> None:
        """A port that says nothing is found out in time, and named."""
        peer = self.peer()
        ground = self.ground(peer, first_byte=0.2)
        peer.instances["i-1"].ports[22] = 1
        problem = await self._not(InstancePort(ground, "i-1", 22))
        self.assertIn("port 22 on i-1 said nothing in 0.2 s", problem)
        self.assertIn("sshd is not running", problem)

    async def test_silent_agent(self) -> None:
        """So is an agent that never shakes hands."""
        peer = self.peer(mute=True)
        problem = await self._not(InstancePort(self.ground(peer, handshake=0.2), "i-1", 22))
        self.assertIn("its SSM agent said nothing in 0.2 s", problem)
        await until(lambda: "TerminateSession" in peer.api.asked, "the end of the session")

    async def _not(self, way: IStreamClientEndpoint) -> str:
        from twisted.internet.protocol import Factory, Protocol

        problem = await self.dial_fails(way.connect(Factory.forProtocol(Protocol)))
        self.assertEqual(problem.failure, DialFailure.BROKEN)
        return problem.detail


class SshOverSsmStreamTests(StreamConformance, SshOverSsmCase):
    """An SSH channel in a session is a stream like any other."""

    async def way(self, port: int) -> IStreamClientEndpoint:
        """By SSH in a session."""
        upstream = self.over(self.peer())
        self.addCleanup(self.none_left, upstream)
        return upstream.endpoint_for(Target("127.0.0.1", port), ANN)
