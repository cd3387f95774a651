"""Tests for L{proxyd.ssm.instance}: by which session a stream goes, and whose fault it is."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from proxyd.errors import DialFailure
from proxyd.net.failover import WayLost
from proxyd.ssm import instance as instance_module
from proxyd.ssm.instance import Instance
from proxyd.target import Target
from tests.ssm.scene import SsmCase
from tests.support.ssm_peer import SsmPeer
from tests.support.streams import until


class InstanceTests(SsmCase):
    """Sessions of one instance."""

    def instance(self, peer: SsmPeer, wanted: int = 1, **times: float) -> Instance:
        """One that may be used."""
        instance = Instance(self.ground(peer, **times), "i-1", wanted)

        def close() -> Deferred[str]:
            instance.close()
            return instance.gone

        self.addCleanup(close)
        return instance

    async def test_one_start_for_many(self) -> None:
        """Who comes while a session starts waits for that one; one who leaves harms nobody."""
        peer = self.peer(handshake_delay=0.05)
        instance = self.instance(peer)
        target = await self.target()
        opening = [Deferred.fromCoroutine(instance.open(target)) for _ in range(5)]
        opening[0].cancel()
        opening[0].addErrback(lambda _: None)
        for one in opening[1:]:
            self.assertIsNotNone(await one)
        self.assertEqual(len(peer.sessions), 1)
        self.assertEqual((instance.sessions, instance.streams), (1, 4))

    async def test_avoided(self) -> None:
        """An instance that refused a session is not asked again for a while."""
        peer = self.peer()
        peer.instances["i-1"].alive = False
        instance = self.instance(peer, avoided=60.0)
        for _ in range(3):
            problem = await self.dial_fails(instance.open(Target("127.0.0.1", 1)))
            self.assertIsInstance(problem, WayLost)
            self.assertIn("not online in SSM", problem.detail)
        self.assertEqual(peer.api.asked.count("StartSession"), 1)

    async def test_most_sessions(self) -> None:
        """When there are as many as may be, an idle one makes room; without one, it is said."""
        peer = self.peer()
        instance = self.instance(peer)
        self.patch(instance_module, "MOST_SESSIONS", 2)
        one, two, three = [await self.target() for _ in range(3)]
        first = await instance.open(one)
        await instance.open(two)
        problem = await self.dial_fails(instance.open(three))
        self.assertEqual(problem.failure, DialFailure.BROKEN)
        self.assertIn("has 2 sessions already", problem.detail)
        first.abortConnection()
        await instance.open(three)
        self.assertEqual(instance.sessions, 2)

    async def test_closed_while_starting(self) -> None:
        """Closing ends what is being started, too."""
        peer = self.peer(mute=True)
        instance = self.instance(peer)
        opening = Deferred.fromCoroutine(instance.open(Target("127.0.0.1", 1)))
        await until(lambda: peer.sockets, "the socket")
        instance.close()
        problem = await self.dial_fails(opening)
        self.assertIsInstance(problem, WayLost)
