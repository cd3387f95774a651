"""Tests for L{proxyd.socks.client}: what one client gets, beside the table of behaviours."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from zope.interface import implementer

from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IUpstream, UpstreamStatus
from proxyd.rules.patterns import pattern
from proxyd.rules.routes import DIRECT, Limits, Rule
from proxyd.target import Principal, Target
from tests.net.peers import until
from tests.socks.scene import (
    LOOPBACK,
    SocksCase,
    connect,
    free_port,
    reply,
    request,
    take,
    threaded,
    through,
)


@implementer(IUpstream)
class FakeUpstream:
    """A way that goes directly, or fails as it is told; writes down what it was asked for."""

    carries_udp = False

    def __init__(self, dialer: Any, resolves: str = "far", fails: DialError | None = None) -> None:
        self.name = "far"
        self.resolves = resolves
        self.asked: list[str] = []
        self._dialer = dialer
        self._fails = fails
        self.waits: list[Deferred[Any]] = []
        self.cancelled = 0
        self.hangs = False

    def endpoint_for(self, target: Target, principal: Principal) -> Any:
        self.asked.append(str(target))
        self._endpoint = self._dialer.endpoint_for(target, principal)
        return self

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        if self.hangs:

            def cancelled(_: object) -> None:
                self.cancelled += 1

            return Deferred(cancelled)
        if self._fails is not None:
            waiting: Deferred[Any] = Deferred()
            waiting.errback(self._fails)
            return waiting
        return self._endpoint.connect(factory)  # type: ignore[no-any-return]

    def ready(self) -> Deferred[None]:
        return Deferred()

    def status(self) -> UpstreamStatus:
        return UpstreamStatus("up", "i-1", ())


FAR = Rule((pattern("127.0.0.0/8"), pattern("localhost")), "far", number=1)


class UpstreamTests(SocksCase):
    """A client whose target is behind another way."""

    async def test_through(self) -> None:
        """Bytes go through a way without a descriptor of ours, and the line names its instance."""
        way = FakeUpstream(self.direct)
        port = self.listen(FAR, upstreams={"far": way})

        def talk() -> bytes:
            sock, code = through(port, "127.0.0.1", self.targets.port)
            with sock:
                self.assertEqual(code, 0)
                sock.sendall(b"Ehello")
                sock.shutdown(socket.SHUT_WR)
                return take(sock, 100)

        self.assertEqual(await threaded(talk), b"hello")
        self.assertEqual(way.asked, [f"127.0.0.1:{self.targets.port}"])
        allowance = self.listeners[0].allowances.of(str(FAR), FAR.limits)
        await until(lambda: not allowance.open, "the end")
        self.assertEqual((allowance.opened, allowance.up, allowance.down), (1, 6, 5))

    async def test_name_unresolved(self) -> None:
        """A name goes to the far side as it is."""
        way = FakeUpstream(self.direct, fails=DialError(DialFailure.NAME, "x"))
        port = self.listen(Rule((pattern("*"),), "far"), upstreams={"far": way})
        sock, code = await threaded(through, port, "db.No-Such.internal", 5432)
        sock.close()
        self.assertEqual((code, way.asked), (4, ["db.no-such.internal:5432"]))

    async def test_pinned(self) -> None:
        """A way with C{resolve: local} is given addresses, judged here."""
        way = FakeUpstream(self.direct, resolves="local")
        port = self.listen(FAR, upstreams={"far": way})
        sock, code = await threaded(through, port, "localhost", self.targets.port)
        sock.close()
        self.assertEqual(code, 0)
        self.assertIn(f"127.0.0.1:{self.targets.port}", way.asked)

    async def test_failures(self) -> None:
        """The way's failures are told by their codes, before any success."""
        for failure, code in ((DialFailure.REFUSED, 5), (DialFailure.BROKEN, 1),
                              (DialFailure.UNREACHABLE, 4)):  # fmt: skip
            way = FakeUpstream(self.direct, fails=DialError(failure, "x"))
            port = self.listen(FAR, upstreams={"far": way})
            sock, said = await threaded(through, port, "127.0.0.1", 1)
            sock.close()
            self.assertEqual(said, code)

    async def test_deadline(self) -> None:
        """A dial that hangs is given up and cancelled, and told as what it is."""
        way = FakeUpstream(self.direct)
        way.hangs = True
        port = self.listen(FAR, upstreams={"far": way}, connect_timeout=0.2)
        sock, code = await threaded(through, port, "127.0.0.1", 1)
        sock.close()
        self.assertEqual((code, way.cancelled), (4, 1))

    async def test_client_leaves(self) -> None:
        """A client that is reset while it waits has its dial cancelled."""
        way = FakeUpstream(self.direct)
        way.hangs = True
        port = self.listen(FAR, upstreams={"far": way})
        sock = connect(port)
        sock.sendall(b"\5\1\0" + request("127.0.0.1", 1))
        await until(lambda: way.asked, "the dial")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        await until(lambda: way.cancelled, "the cancel")

    async def test_again(self) -> None:
        """An address that is asked for again, its way known by then, is told the same."""
        port, nobody = self.listen(), free_port()
        for _ in range(2):
            sock, code = await threaded(through, port, "127.0.0.1", nobody)
            sock.close()
            self.assertEqual(code, 5)
        self.assert_known("127.0.0.1", nobody)

    async def test_again_too_late(self) -> None:
        """A dial by a way that was known is given up at the deadline, too."""
        port, deaf = self.listen(connect_timeout=0.2), self.deaf()
        for _ in range(2):
            sock, code = await threaded(through, port, "127.0.0.1", deaf)
            sock.close()
            self.assertEqual(code, 4)
        self.assert_known("127.0.0.1", deaf)
        self.assertEqual(len(self.listeners[0].dials), 0)

    async def test_again_client_leaves(self) -> None:
        """So it is when its client is reset."""
        port, deaf = self.listen(), self.deaf()
        dials = self.listeners[0].dials
        for _ in range(2):
            sock = connect(port)
            sock.sendall(b"\5\1\0" + request("127.0.0.1", deaf))
            await until(lambda: len(dials), "the dial")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
            await until(lambda: not len(dials), "the cancel")
        self.assert_known("127.0.0.1", deaf)

    def assert_known(self, host: str, port: int) -> None:
        """The last of these had not to ask for its way."""
        router = self.listeners[0].router
        self.assertIsNotNone(router.known(Target(host, port), Principal("", "127.0.0.1")))

    def deaf(self) -> int:
        """The port of somebody whose queue is full, so that a connect to it hangs."""
        sock = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.closing.append(sock.close)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
            self.closing.append(filler.close)
        port: int = sock.getsockname()[1]
        return port

    async def test_no_datagrams(self) -> None:
        """Where nothing goes directly, UDP ASSOCIATE is answered 7; BIND so, too."""
        way = FakeUpstream(self.direct)
        port = self.listen(FAR, upstreams={"far": way}, default="far", bind=True)
        for command in (2, 3):

            def ask(command: int = command) -> int:
                with connect(port) as sock:
                    sock.sendall(b"\5\1\0" + request("127.0.0.1", 9, command))
                    take(sock, 2)
                    return reply(sock)[0]

            self.assertEqual(await threaded(ask), 7, command)


class LimitTests(SocksCase):
    """What a user and a route may have."""

    async def test_connections_of_a_user(self) -> None:
        """One too many is refused; when one has ended there is room again."""
        port = self.listen(accounts=[("ann", "x")], limits=Limits(connections=1))

        def ask() -> tuple[socket.socket, int]:
            sock = connect(port)
            sock.sendall(b"\5\1\2\1\3ann\1x" + request("127.0.0.1", self.targets.port))
            take(sock, 4)
            return sock, reply(sock)[0]

        first, code = await threaded(ask)
        self.assertEqual(code, 0)
        second, code = await threaded(ask)
        self.assertEqual(code, 1)
        second.close()
        first.close()
        allowance = self.listeners[0].allowances.of("user ann", Limits(connections=1))
        await until(lambda: not allowance.open, "room")
        third, code = await threaded(ask)
        third.close()
        self.assertEqual((code, allowance.refused), (0, 1))

    async def test_bandwidth_of_a_route(self) -> None:
        """Two connections have it together."""
        rule = Rule(LOOPBACK.patterns, DIRECT, number=1, limits=Limits(bandwidth=4_000_000))
        port = self.listen(rule)
        size = 2_000_000

        def fetch() -> int:
            sock, _ = through(port, "127.0.0.1", self.targets.port)
            with sock:
                sock.sendall(b"D" + size.to_bytes(4, "big"))
                return len(take(sock, size))

        began = self.clock.seconds()
        both = [threaded(fetch), threaded(fetch)]
        self.assertEqual([await one for one in both], [size, size])
        # 4 MB at 4 MB/s, but for what was saved up and the last read of each.
        self.assertGreater(self.clock.seconds() - began, 0.6)


class OrderTests(SocksCase):
    """What a client is told, and when."""

    async def test_refused_port(self) -> None:
        """A refusal comes before any success, and then the end."""
        port = self.listen()
        refused = free_port()

        def ask() -> tuple[int, bytes]:
            sock, code = through(port, "127.0.0.1", refused)
            with sock:
                return code, sock.recv(1)

        self.assertEqual(await threaded(ask), (5, b""))
        self.assertEqual(self.listeners[0].failed, 1)

    async def test_denied(self) -> None:
        """What a rule denies is told by 2, and nothing was dialled."""
        port = self.listen(Rule((pattern("127.0.0.0/8"),), None, number=4))
        sock, code = await threaded(through, port, "127.0.0.1", self.targets.port)
        sock.close()
        self.assertEqual((code, self.targets.peers), (2, []))
