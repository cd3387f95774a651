"""Session Manager on loopback, and upstreams through it, for the tests of this folder."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import replace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import optionsForClientTLS

from proxyd.config.times import SsmTimes, UpstreamTimes
from proxyd.dial.aws.account import AwsAccount, AwsSession, Keys
from proxyd.dial.aws.ssm import SsmSessions
from proxyd.net.threads import Threads
from proxyd.ssm.ground import Ground
from proxyd.ssm.socket import SocketOpener
from proxyd.ssm.upstream import SsmUpstream
from proxyd.target import Target
from tests.ssh.scene import ANN, SshCase
from tests.support.seeds import SOAK
from tests.support.ssm_agent import Manners
from tests.support.ssm_peer import SsmPeer, Weather
from tests.support.streams import Party, Pump, until

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "token/of+session==")
TIMES = SsmTimes(half_closed=0.5, goodbye=0.5, resume_first=0.02, avoided=0.3)
BULK = (200 if SOAK else 5) * 1_000_000
BULK_SECONDS = 3600 if SOAK else 170
"""What goes each way in bad weather, and how long a test may take that does so."""

SWIFT = UpstreamTimes(connect=30.0, first_pause=0.05, longest_pause=0.2, soonest=0.05, settle=0.2)


class SsmCase(SshCase):
    """A peer and upstreams, put away at the end; nothing may be left."""

    def peer(self, *instances: str, **words: Any) -> SsmPeer:
        """The services, with these instances."""
        peer = SsmPeer(seed=words.pop("seed", 1), listener=words.pop("listener", None))
        for name in instances or ("i-1",):
            peer.instances[name] = Manners(**words)
        self.addCleanup(peer.stop)
        return peer

    def ground(self, peer: SsmPeer, **changed: Any) -> Ground:
        """What sessions stand on."""
        environment = changed.pop("environment", {})
        profile = changed.pop("profile", None)
        times = replace(TIMES, **changed)
        threads = Threads(reactor, "aws", 4)  # type: ignore[arg-type]
        threads.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(threads.stopService)
        session = AwsSession(
            profile=profile,
            keys=None if profile else KEYS,
            region="eu-central-1",
            endpoint_url=peer.url,
        )
        account = AwsAccount(threads, reactor, session)  # type: ignore[arg-type]
        source = SsmSessions(account, reactor, random.random, times.call)  # type: ignore[arg-type]
        opener = SocketOpener(
            reactor,
            self.dialer(),
            source,
            optionsForClientTLS,
            environment,
            clear=True,
            seconds=times.open,
        )
        return Ground(reactor, source, opener, times, 1.7e9)  # type: ignore[arg-type]

    def forwarding(self, peer: SsmPeer, **words: Any) -> SsmUpstream:
        """An upstream without SSH; words are the upstream's, or change times."""
        own = {name: words.pop(name) for name in ("sessions", "timeout") if name in words}
        ground = words.pop("ground", None) or self.ground(peer, **words)
        upstream = SsmUpstream("dev", list(peer.instances), ground, times=SWIFT, **own)
        upstream.startService()
        self.addCleanup(upstream.stopService)
        return upstream

    async def through(self, upstream: Any, target: Target, party: Party | None = None) -> Party:
        """A stream through an upstream."""
        near = party or Party()
        await upstream.endpoint_for(target, ANN).connect(Factory.forProtocol(lambda: near))  # type: ignore[arg-type]
        return near

    async def says_back(self, near: Party, text: bytes) -> None:
        """An echo answers."""
        before = near.received
        near.stream.write(text)
        await until(lambda: near.received >= before + len(text), "the echo")

    def ended(self, near: Party) -> Deferred[None]:
        """Fires when a stream is over."""
        return until(lambda: near.lost, "the end of a stream")

    async def taken_by(self, far: Protocol) -> Target:
        """A target whose one connection is this protocol's."""

        class Taken(Protocol):
            """Hands its connection to the far end."""

            def __new__(cls) -> Any:
                return far

        return await self.target(Taken)

    async def bulk_in_bad_weather(self, peer: SsmPeer, upstream: Any) -> None:
        """
        Both ways at once at 1 % loss, 5 % reordered, 5 % twice; all sockets are cut meanwhile.

        Equal checksums, and one session to the end. The time is printed.
        """
        far = Party()
        near = await self.through(upstream, await self.taken_by(far))
        await until(lambda: "made" in far.events, "the far end")
        peer.weather = Weather(loss=0.01, repeat=0.05, reorder=0.05)
        began = time.monotonic()
        up, down = Pump(near.stream, BULK), Pump(far.stream, BULK)
        for part, cut in ((4, peer.cut), (3, peer.cut_agents), (2, peer.cut)):
            await self._until_long(lambda part=part: near.received > BULK // part, "a part")
            cut()
        await self._until_long(lambda: far.received == BULK and near.received == BULK, "all")
        seconds = time.monotonic() - began
        sys.stderr.write(f"\n{BULK // 1_000_000} MB each way in bad weather: {seconds:.0f} s\n")
        self.assertEqual(far.digest.digest(), up.digest.digest())
        self.assertEqual(near.digest.digest(), down.digest.digest())
        self.assertGreaterEqual(peer.api.asked.count("ResumeSession"), 2)
        self.assertEqual(len(peer.sessions), 1)
        near.stream.loseConnection()
        await until(lambda: "read" in far.events, "the end")

    async def _until_long(self, check: Any, what: str) -> None:
        for _ in range(60 if SOAK else 3):
            try:
                await until(check, what)
                return
            except AssertionError:
                continue
        raise AssertionError(f"waited in vain for {what}")
