"""A network that loses every packet and tells nobody: how an upstream finds out."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from proxyd.config.times import PulseTimes, UpstreamTimes
from proxyd.target import Target
from tests.ssh.scene import SshCase
from tests.support.netns import Cabled
from tests.support.streams import until

PULSE = PulseTimes(interval=1.0, patience=1.0)


class PartitionTests(SshCase):
    """The first of two servers is behind a cable that is pulled."""

    async def test_cable(self) -> None:
        """It is noticed within the keepalive time; meanwhile and after, new dials succeed."""
        cable = Cabled()
        self.enterContext(cable)
        behind = self.sshd(host=cable.host, starter=cable.starter)
        here = self.sshd()
        times = UpstreamTimes(
            connect=2.0, first_pause=0.1, longest_pause=0.2, soonest=0.1, settle=0.1
        )
        upstream = self.upstream(behind, here, pulse=PULSE, times=times)
        first = f"{behind.host}:{behind.port}"
        await until(
            lambda: all(one.state == "connected" for one in upstream.status().instances),
            "both servers",
        )
        self.assertEqual(upstream.status().in_use, first)
        # The first reaches its own namespace only: its own SSH port is a target as good as any.
        old = await self.dial(upstream, Target(behind.host, behind.port))
        await until(lambda: old.received, "the target's greeting")
        clock = IReactorTime(reactor)
        heard = clock.seconds()
        cable.pull()
        await until(lambda: old.lost, "the loss to be noticed")
        took = clock.seconds() - heard
        self.assertGreater(took, PULSE.interval)
        self.assertIn("no sign of life", upstream.status().instances[0].last_error)
        target = await self.target()
        for _ in range(3):
            party = await self.dial(upstream, target)
            party.stream.loseConnection()
        cable.plug()
        await until(lambda: upstream.status().in_use == first, "the first to be used again")
        await self.none_left(upstream)

    async def test_dial_meanwhile(self) -> None:
        """Who dials into the silence is led on by the other server, before the keepalive time."""
        cable = Cabled()
        self.enterContext(cable)
        behind = self.sshd(host=cable.host, starter=cable.starter)
        here = self.sshd()
        upstream = self.upstream(behind, here, pulse=PulseTimes(interval=600.0, patience=1.0))
        await until(
            lambda: all(one.state == "connected" for one in upstream.status().instances),
            "both servers",
        )
        cable.pull()
        target = await self.target()
        dialling = [Deferred.fromCoroutine(self.dial(upstream, target)) for _ in range(5)]
        for one in dialling:
            (await one).stream.loseConnection()
        await self.none_left(upstream)
