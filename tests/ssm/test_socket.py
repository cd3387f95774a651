"""Tests for L{proxyd.ssm.socket}: how a session's WebSocket is opened."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IReactorSSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from proxyd.errors import DialError
from proxyd.net.tls import server_context
from proxyd.target import Target
from tests.net.authority import made
from tests.ssm.scene import SsmCase
from tests.support.streams import until


class Connects(Protocol):
    """
    An HTTP proxy, the least of one; what is asked of it is kept.

    @cvar left: connections that are still there, of either side
    """

    left: ClassVar[list[Connects]] = []

    def connectionMade(self) -> None:
        """One more."""
        self.left.append(self)

    def __init__(self, asked: list[bytes]) -> None:
        self.asked = asked
        self.head = b""
        self.other: Any = None

    def dataReceived(self, data: bytes) -> None:
        """CONNECT, and then bytes."""
        if self.other is not None:
            self.other.transport.write(data)
            return
        self.head += data
        if self.head.endswith(b"\r\n\r\n"):
            line = self.head.partition(b"\r\n")[0]
            self.asked.append(line)
            there = Connects(self.asked)
            there.other = self
            port = int(line.split()[1].rpartition(b":")[2])
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)  # type: ignore[no-untyped-call]
            endpoint.connect(Factory.forProtocol(lambda: there)).addCallback(self.joined)  # type: ignore[arg-type]

    def joined(self, there: Any) -> None:
        """It is connected."""
        self.other = there
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 200 OK\r\n\r\n")

    def connectionLost(self, reason: object = None) -> None:
        """So is the other one."""
        self.left.remove(self)
        if self.other is not None:
            self.other.transport.loseConnection()


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
        port, _ = self.tls(Factory.forProtocol(Protocol))
        opener = self.ground(self.peer()).opener
        problem = await self.dial_fails(opener.open(f"wss://localhost:{port}/x"))
        self.assertIn("certificate", str(problem))

    async def test_tls_through_a_proxy(self) -> None:
        """A relay in TLS, by the HTTP proxy that the environment names: nothing else changes."""
        peer = self.peer()
        port, authority = self.tls(peer.factory)
        peer.base = f"wss://localhost:{port}"
        asked: list[bytes] = []
        proxy = reactor.listenTCP(  # type: ignore[attr-defined]
            0, Factory.forProtocol(lambda: Connects(asked)), interface="127.0.0.1"
        )
        self.addCleanup(proxy.stopListening)
        environment = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.getHost().port}"}
        ground = self.ground(peer, environment=environment)
        root = trustRootFromCertificates([Certificate.loadPEM(authority)])  # type: ignore[no-untyped-call]
        ground.opener._trust = lambda host: optionsForClientTLS(host, trustRoot=root)
        upstream = self.forwarding(peer, ground=ground)
        near = await self.through(upstream, await self.target())
        await self.says_back(near, bytes(300_000))
        peer.cut()
        await self.says_back(near, bytes(300_000))
        ours = near.stream._carrier.session._socket
        self.assertTrue(ours.transport.getTcpNoDelay())
        self.assertEqual(set(asked), {b"CONNECT localhost:%d HTTP/1.1" % port})
        self.assertEqual(peer.upgrades[0][1]["host"], f"localhost:{port}")
        await upstream.stopService()
        for socket in list(peer.sockets):
            socket.dropConnection(abort=True)
        # The proxy passes the end on; what leaves us last is the socket that was told to.
        await until(
            lambda: ours._lingering and not ours._lingering.active() and not Connects.left,
            "the end of what went through the proxy",
        )

    def tls(self, factory: Any) -> tuple[int, bytes]:
        """The port of a server in TLS, and the certificate of who vouches for it."""
        pair = made("localhost", names=("localhost",))
        context = server_context(*pair.write(self.mktemp(), "relay"))

        class Options:
            def getContext(self) -> object:
                return context

        port = IReactorSSL(reactor).listenSSL(0, factory, Options(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number, pair.pem
