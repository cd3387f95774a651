"""Tests for L{proxyd.ssm.socket}: how a session's WebSocket is opened."""

from __future__ import annotations

from proxyd.errors import DialError
from proxyd.target import Target
from tests.ssm.scene import SsmCase
from tests.support.streams import until


class SocketTests(SsmCase):
    """The upgrade, signed and not, directly and through a proxy."""

    async def test_signed(self) -> None:
        """It is signed over the host as it is sent, and its address is used as it came."""
        peer = self.peer()
        await self.through(self.forwarding(peer), await self.target())
        path, headers = peer.upgrades[0]
        self.assertTrue(
            path.endswith("?role=publish_subscribe&cell-number=AAEAAdAv6B6/fyea7+x=="), path
        )
        self.assertEqual(headers["host"], f"127.0.0.1:{peer.port}")
        self.assertIn("/eu-central-1/ssmmessages/aws4_request", headers["authorization"])
        self.assertIn("host;", headers["authorization"])
        self.assertEqual(headers["x-amz-security-token"], "token/of+session==")
        self.assertNotIn("origin", headers)
        self.assertNotIn("sec-websocket-extensions", headers)

    async def test_no_delay(self) -> None:
        """Small frames don't wait until what went before is acknowledged."""
        near = await self.through(self.forwarding(self.peer()), await self.target())
        socket = near.stream._carrier.session._socket
        self.assertTrue(socket.transport.getTcpNoDelay())

    async def test_unsigned_once(self) -> None:
        """Who may not open a signed one may open another."""
        peer = self.peer()
        peer.refuse = "signed"
        near = await self.through(self.forwarding(peer), await self.target())
        await self.says_back(near, b"x")
        self.assertEqual(["authorization" in one for _, one in peer.upgrades], [True, False])

    async def test_refused(self) -> None:
        """Refused both times: the line names what is missing."""
        peer = self.peer()
        peer.refuse = "all"
        target = Target("127.0.0.1", 1)
        problem = await self.dial_fails(self.through(self.forwarding(peer), target))
        self.assertIn("ssmmessages:OpenDataChannel", problem.detail)
        self.assertEqual(len(peer.upgrades), 2)

    async def test_clear_is_for_tests(self) -> None:
        """A token is never sent where AWS's address is not TLS."""
        opener = self.ground(self.peer()).opener
        opener._clear = False
        for url in ("ws://127.0.0.1/x", "http://x", "wss:///x"):
            try:
                await opener.open(url)
            except DialError as problem:
                self.assertIn("no wss://", problem.detail)
            else:
                self.fail(url)

    async def test_nobody_there(self) -> None:
        """A relay that can't be reached is named."""
        opener = self.ground(self.peer()).opener
        problem = await self.dial_fails(opener.open("ws://127.0.0.1:1/x"))
        self.assertIn("127.0.0.1:1", str(problem))

    async def test_silent_relay(self) -> None:
        """One that takes the connection and says nothing is given up."""
        from twisted.internet.protocol import Protocol

        target = await self.target(Protocol)
        opener = self.ground(self.peer(), open=0.2).opener
        await self.dial_fails(opener.open(f"ws://127.0.0.1:{target.port}/x"))

    async def test_dead_socket_is_noticed(self) -> None:
        """A relay that does not answer a ping is dead: the session is resumed."""
        peer = self.peer()
        upstream = self.forwarding(peer, pulse=0.1, patience=0.1)
        near = await self.through(upstream, await self.target())
        for socket in peer.sockets:
            socket.transport.pauseProducing()
        await until(lambda: "ResumeSession" in peer.api.asked, "a resume")
        await self.says_back(near, b"x")

    async def test_verified(self) -> None:
        """A relay whose certificate nobody vouches for is not spoken to."""
        from twisted.internet import reactor
        from twisted.internet.interfaces import IReactorSSL
        from twisted.internet.protocol import Factory, Protocol

        from proxyd.net.tls import server_context
        from tests.net.authority import made

        pair = made("localhost", names=("localhost",))
        certificate, key = pair.write(self.mktemp(), "relay")
        context = server_context(certificate, key)

        class Options:
            def getContext(self) -> object:
                return context

        port = IReactorSSL(reactor).listenSSL(
            0, Factory.forProtocol(Protocol), Options(), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        opener = self.ground(self.peer()).opener
        problem = await self.dial_fails(opener.open(f"wss://localhost:{port.getHost().port}/x"))
        self.assertIn("certificate", str(problem))
