"""Tests for L{proxyd.ssh.upstream}: real OpenSSH servers, one or several."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from proxyd.config.times import PulseTimes
from proxyd.errors import DialFailure, StartError
from proxyd.interfaces import IUpstream
from proxyd.ssh.upstream import SshLogin, SshUpstream
from proxyd.target import Target
from tests.ssh.scene import ANN, SshCase
from tests.ssh.test_agent import RealAgent
from tests.support.sshd import make_key
from tests.support.streams import Party, until


class UpstreamTests(SshCase):
    """One server."""

    async def echo(self, upstream: SshUpstream, target: Target) -> None:
        """Something goes there and back."""
        party = await self.dial(upstream, target)
        party.stream.write(b"hello")
        await until(lambda: party.received == 5, "the echo")
        party.stream.loseConnection()
        await until(lambda: party.lost, "the end")

    async def test_promises(self) -> None:
        """It is what it says, and comes up by itself."""
        upstream = self.upstream(self.sshd())
        self.assertTrue(verifyObject(IUpstream, upstream))
        self.assertEqual(upstream.status().state, "connecting")
        await upstream.ready()
        await self.echo(upstream, await self.target())
        status = upstream.status()
        self.assertEqual((status.state, status.opened, status.failed), ("up", 1, 0))
        await self.none_left(upstream)

    async def test_before_it_is_up(self) -> None:
        """Who dials at once waits until it is connected."""
        await self.echo(self.upstream(self.sshd()), await self.target())

    async def test_target_refuses(self) -> None:
        """A target that refuses is its own failure, not the way's."""
        upstream = self.upstream(self.sshd())
        problem = await self.dial_fails(self.dial(upstream, Target("127.0.0.1", 1)))
        self.assertIs(problem.failure, DialFailure.REFUSED)
        self.assertEqual(upstream.status().state, "up")

    async def test_nobody_there(self) -> None:
        """No server: ready() says which, and why; a dial fails as BROKEN without waiting long."""
        server = self.sshd()
        server.stop()
        upstream = self.upstream(server)
        try:
            await upstream.ready()
        except StartError as problem:
            self.assertIn("upstream office: no way there", str(problem))
            self.assertIn(f"{server.host}:{server.port}", str(problem))
            self.assertIn("connection refused", str(problem))
        else:
            self.fail("ready")
        failed = await self.dial_fails(self.dial(upstream, Target("127.0.0.1", 1)))
        self.assertIs(failed.failure, DialFailure.BROKEN)
        server.start()
        await until(lambda: upstream.status().state == "up", "it to come up by itself")
        await self.echo(upstream, await self.target())

    async def test_login_refused(self) -> None:
        """A login that is refused is told with the user and the key."""
        server = self.sshd(keys=[make_key(Path(self.mktemp())).with_suffix(".pub")])
        upstream = self.upstream(server)
        try:
            await upstream.ready()
        except StartError as problem:
            self.assertIn(f"login as {server.user} refused", str(problem))
        else:
            self.fail("ready")

    async def test_key_with_passphrase(self) -> None:
        """A key file with a passphrase, which no text of ours repeats."""
        key = make_key(Path(self.mktemp()), passphrase="open sesame")
        server = self.sshd(keys=[key.with_name(f"{key.name}.pub")])
        login = SshLogin(server.user, key, "open sesame", None, self.host_keys())
        upstream = self.upstream(server, login=login)
        await upstream.ready()
        self.assertNotIn("sesame", repr(login))

    async def test_agent(self) -> None:
        """Keys of an ssh-agent, RSA among them."""
        key = make_key(Path(self.mktemp()), "-t", "rsa", "-b", "2048")
        agent = RealAgent(key)
        self.addCleanup(agent.stop)
        server = self.sshd(keys=[key.with_name(f"{key.name}.pub")])
        login = SshLogin(server.user, None, None, agent.path, self.host_keys())
        await self.echo(self.upstream(server, login=login), await self.target())

    async def test_no_agent(self) -> None:
        """Neither key nor agent."""
        server = self.sshd()
        login = SshLogin(server.user, None, None, None, self.host_keys())
        try:
            await self.upstream(server, login=login).ready()
        except StartError as problem:
            self.assertIn("SSH_AUTH_SOCK", str(problem))
        else:
            self.fail("ready")

    async def test_jump(self) -> None:
        """A server behind a server: the way to the second is the first."""
        first, second = self.sshd(), self.sshd()
        outer = self.upstream(first)
        inner = self.upstream(second, hosts=[self.host(second, outer)])
        await self.echo(inner, await self.target())
        self.assertEqual(outer.status().instances[0].streams, 1)
        first.stop()
        await until(lambda: inner.status().state != "up", "the inner way to be lost")
        first.start()
        await self.echo(inner, await self.target())

    async def test_cancelled(self) -> None:
        """A dial that is given up leaves nothing."""
        upstream = self.upstream(self.sshd())
        await upstream.ready()
        target = await self.target()
        dialling = upstream.endpoint_for(target, ANN).connect(Factory.forProtocol(Party))
        dialling.cancel()
        try:
            await dialling
        except CancelledError:
            pass
        else:
            self.fail("connected")
        await self.none_left(upstream)

    async def test_too_late(self) -> None:
        """A target that does not answer is given up at the deadline."""
        # Of a backlog that is full: the system answers no more.
        listening = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.addCleanup(listening.close)
        port = listening.getsockname()[1]
        filling = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            self.addCleanup(one.close)
            filling.append(one)
        upstream = self.upstream(self.sshd(), timeout=1.0)
        await upstream.ready()
        problem = await self.dial_fails(self.dial(upstream, Target("127.0.0.1", port)))
        self.assertIs(problem.failure, DialFailure.TIMEOUT)

    async def test_stop(self) -> None:
        """A stop ends the connections, and what goes through them."""
        upstream = self.upstream(self.sshd())
        party = await self.dial(upstream, await self.target())
        await upstream.stopService()
        await until(lambda: party.lost, "the stream to be lost")
        self.assertEqual(upstream.status().state, "stopped")
        upstream.startService()
        await upstream.ready()


class FailoverTests(SshCase):
    """Several servers."""

    async def test_first_is_killed(self) -> None:
        """
        Fifty open connections and twenty new a second; the first of three servers is killed.

        Every new one succeeds, the old ones are reset, and the first is used
        again when it is back.
        """
        servers = [self.sshd() for _ in range(3)]
        target = await self.target()
        upstream = self.upstream(*servers, timeout=10.0)
        await until(
            lambda: all(one.state == "connected" for one in upstream.status().instances),
            "all servers",
        )
        first = upstream.status().instances[0].name
        self.assertEqual(upstream.status().in_use, first)
        old = [await self.dial(upstream, target) for _ in range(50)]
        self.assertEqual(upstream.status().instances[0].streams, 50)
        dialling: list[Deferred[Party]] = []
        clock = IReactorTime(reactor)

        def dial_another() -> None:
            dialling.append(Deferred.fromCoroutine(self.dial(upstream, target)))
            if len(dialling) < 60:
                clock.callLater(0.05, dial_another)

        dial_another()
        await until(lambda: len(dialling) >= 20, "a second")
        servers[0].stop()
        await until(lambda: all(party.lost for party in old), "the old ones to be reset")
        self.assertEqual({type(party.reason).__name__ for party in old}, {"ConnectionLost"})
        await until(lambda: len(dialling) == 60, "three seconds")
        parties = [await one for one in dialling]
        # Those on the first before it died are lost with it; those that came after it are not.
        last = parties[-30:]
        for party in last:
            party.stream.write(b"hello")
        await until(lambda: all(party.received == 5 for party in last), "the echoes")
        self.assertNotEqual(upstream.status().in_use, first)
        servers[0].start()
        await until(lambda: upstream.status().in_use == first, "the first to be used again")
        party = await self.dial(upstream, target)
        self.assertEqual(upstream.status().instances[0].streams, 1)
        for one in [*parties, party]:
            if not one.lost:
                one.stream.loseConnection()
        await self.none_left(upstream)
        self.assertEqual(upstream.status().failed, 0)

    async def test_killed_while_opening(self) -> None:
        """An opening that is under way when its server dies succeeds by the next one."""
        servers = [self.sshd() for _ in range(2)]
        target = await self.target()
        upstream = self.upstream(*servers)
        await until(
            lambda: all(one.state == "connected" for one in upstream.status().instances),
            "both servers",
        )
        servers[0].signal(signal.SIGSTOP)
        dialling = [Deferred.fromCoroutine(self.dial(upstream, target)) for _ in range(20)]
        servers[0].stop()
        for one in dialling:
            (await one).stream.loseConnection()
        await self.none_left(upstream)

    async def test_standing_still(self) -> None:
        """A server that stands still is found out by those who wait for it, and left."""
        servers = [self.sshd() for _ in range(2)]
        target = await self.target()
        upstream = self.upstream(*servers, pulse=PulseTimes(interval=300.0, patience=0.5))
        await until(
            lambda: all(one.state == "connected" for one in upstream.status().instances),
            "both servers",
        )
        servers[0].signal(signal.SIGSTOP)
        party = await self.dial(upstream, target)
        party.stream.loseConnection()
        servers[0].signal(signal.SIGCONT)
        self.assertIn("no sign of life", upstream.status().instances[0].last_error)
