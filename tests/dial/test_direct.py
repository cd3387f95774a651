"""Tests for L{proxyd.dial.direct}: first with a reactor of memory, then with real sockets."""

from __future__ import annotations

import os
import socket
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectionLost,
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from proxyd.dial.direct import DirectDialer
from proxyd.dial.failures import summed_up, translated
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IDialer
from proxyd.net.resolver import Address, Resolver
from proxyd.target import Principal, Target

ANN = Principal("ann", "192.0.2.9")
FOUR, SIX = socket.AF_INET, socket.AF_INET6


class Names:
    """A resolver that answers when the test says so."""

    def __init__(self) -> None:
        self.cancelled = False
        self.answer: Deferred[list[Address]] = Deferred(self.cancel)

    def cancel(self, _: object) -> None:
        """Note that nobody waits any more."""
        self.cancelled = True

    def resolve(self, host: str, port: int) -> Deferred[list[Address]]:
        """Ask."""
        return self.answer


class RaceTests(SynchronousTestCase):
    """A name's addresses are tried in order, the next when the one before is slow or fails."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.names = Names()
        self.dialer = DirectDialer(self.reactor, self.names, timeout=10.0)  # type: ignore[arg-type]

    def dial(self, *hosts: str) -> Deferred[Any]:
        """Dial a name that stands for these addresses; without any its look-up hangs."""
        endpoint = self.dialer.endpoint_for(Target("db.example", 5432), ANN)
        dialling = endpoint.connect(Factory.forProtocol(Protocol))
        if hosts:
            self.names.answer.callback(
                [Address(SIX if ":" in host else FOUR, host, 5432) for host in hosts]
            )
        return dialling

    @property
    def tried(self) -> list[str]:
        """The addresses that have been tried so far."""
        return [attempt[0] for attempt in self.reactor.tcpClients]

    def fail_attempt(self, number: int, problem: Exception) -> None:
        """This attempt ends so."""
        self.reactor.tcpClients[number][2].clientConnectionFailed(
            self.reactor.connectors[number],
            Failure(problem),
        )

    def connect_attempt(self, number: int) -> Any:
        """This attempt connects; its transport's protocol."""
        protocol = self.reactor.tcpClients[number][2].buildProtocol(None)
        protocol.makeConnection(None)
        return protocol

    def assert_fails(self, dialling: Deferred[Any], failure: DialFailure, *parts: str) -> None:
        """It failed in that way, its text has these parts, and nothing is left behind."""
        error = self.failureResultOf(dialling, DialError).value
        self.assertIs(error.failure, failure)
        for part in parts:
            self.assertIn(part, str(error))
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        """No timer runs."""
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def stopped(self) -> list[bool]:
        """For each attempt, whether it was given up."""
        return [connector.stoppedConnecting for connector in self.reactor.connectors]

    def test_first(self) -> None:
        """The first address is taken when it answers; nothing else is tried."""
        dialling = self.dial("192.0.2.1", "192.0.2.2")
        self.assertEqual(self.tried, ["192.0.2.1"])
        self.connect_attempt(0)
        self.assertIsInstance(self.successResultOf(dialling), Protocol)
        self.assert_nothing_left()
        self.reactor.advance(1.0)
        self.assertEqual(self.tried, ["192.0.2.1"])

    def test_next_after_a_failure(self) -> None:
        """A failure brings the next at once."""
        dialling = self.dial("192.0.2.1", "192.0.2.2")
        self.fail_attempt(0, ConnectionRefusedError())
        self.assertEqual(self.tried, ["192.0.2.1", "192.0.2.2"])
        self.connect_attempt(1)
        self.successResultOf(dialling)
        self.assert_nothing_left()

    def test_next_after_silence(self) -> None:
        """A quarter of a second of silence brings the next; whoever answers first is taken."""
        dialling = self.dial("2001:db8::1", "192.0.2.1", "192.0.2.2")
        self.reactor.advance(0.24)
        self.assertEqual(self.tried, ["2001:db8::1"])
        self.reactor.advance(0.02)
        self.assertEqual(self.tried, ["2001:db8::1", "192.0.2.1"])
        self.reactor.advance(0.25)
        self.assertEqual(self.tried, ["2001:db8::1", "192.0.2.1", "192.0.2.2"])
        self.connect_attempt(1)
        self.successResultOf(dialling)
        self.assert_nothing_left()
        self.assertEqual(self.stopped(), [True, False, True])

    def test_all_fail(self) -> None:
        """When all fail, all is told, and the failure is the most telling one."""
        dialling = self.dial("2001:db8::1", "192.0.2.1", "192.0.2.2")
        self.fail_attempt(0, NoRouteError(osError=101))
        self.fail_attempt(1, ConnectionRefusedError(osError=111))
        self.fail_attempt(2, TCPTimedOutError(osError=110))
        self.assert_fails(
            dialling,
            DialFailure.REFUSED,
            "db.example:5432: [2001:db8::1]:5432: network is unreachable; 192.0.2.1:5432",
        )

    def test_timeout(self) -> None:
        """A dial that hangs is given up at the deadline, and cancelled below."""
        dialling = self.dial("192.0.2.1", "192.0.2.2")
        self.reactor.pump([0.25, 9.7])
        self.assertNoResult(dialling)
        self.reactor.advance(0.1)
        self.assert_fails(dialling, DialFailure.TIMEOUT, "db.example:5432: no answer in 10 s")
        self.assertEqual(self.stopped(), [True, True])

    def test_timeout_of_the_look_up(self) -> None:
        """The deadline holds for the name's look-up too."""
        dialling = self.dial()
        self.reactor.advance(10.1)
        self.assert_fails(dialling, DialFailure.TIMEOUT)
        self.assertTrue(self.names.cancelled)

    def test_no_name(self) -> None:
        """A name that is not found is told as the resolver says it."""
        dialling = self.dial()
        self.names.answer.errback(DialError(DialFailure.NAME, "db.example: no such name"))
        self.assert_fails(dialling, DialFailure.NAME, "no such name")
        self.assertEqual(self.tried, [])

    def test_cancel_looking(self) -> None:
        """Cancelled while the name is looked up: the look-up is given up."""
        dialling = self.dial()
        dialling.cancel()
        self.failureResultOf(dialling, CancelledError)
        self.assertTrue(self.names.cancelled)
        self.assert_nothing_left()

    def test_cancel_connecting(self) -> None:
        """Cancelled while attempts run: all of them are given up, and no more begin."""
        dialling = self.dial("192.0.2.1", "192.0.2.2", "192.0.2.3")
        self.reactor.advance(0.3)
        dialling.cancel()
        self.failureResultOf(dialling, CancelledError)
        self.assertEqual(self.stopped(), [True, True])
        self.assert_nothing_left()
        self.reactor.advance(1.0)
        self.assertEqual(len(self.tried), 2)

    def test_nothing_before_connect(self) -> None:
        """An endpoint alone does nothing."""
        endpoint = self.dialer.endpoint_for(Target("192.0.2.1", 5432), ANN)
        verifyObject(IStreamClientEndpoint, endpoint)
        self.assertEqual(self.tried, [])
        self.assert_nothing_left()

    def test_no_protocol(self) -> None:
        """A factory that wants no protocol is a DialError like any other."""
        factory = Factory.forProtocol(Protocol)
        factory.buildProtocol = lambda _: None  # type: ignore[method-assign]
        dialling = self.dialer.endpoint_for(Target("db.example", 5432), ANN).connect(factory)
        self.names.answer.callback([Address(FOUR, "192.0.2.1", 5432)])
        self.reactor.tcpClients[0][2].buildProtocol(None)
        self.assert_fails(dialling, DialFailure.BROKEN, "NoProtocol")

    def test_interface(self) -> None:
        """It is an IDialer."""
        verifyObject(IDialer, self.dialer)


class TranslatedTests(SynchronousTestCase):
    """Whatever an attempt fails with becomes one of our failures."""

    def test_failures(self) -> None:
        """By the kind of error, else by the system's number."""
        for problem, failure in (
            (ConnectionRefusedError(), DialFailure.REFUSED),
            (TimeoutError(), DialFailure.TIMEOUT),
            (TCPTimedOutError(), DialFailure.TIMEOUT),
            (NoRouteError(), DialFailure.UNREACHABLE),
            (ConnectError(osError=113), DialFailure.UNREACHABLE),
            (ConnectError(osError=13), DialFailure.UNREACHABLE),
            (ConnectError(osError=2), DialFailure.REFUSED),
            (ConnectError(osError=104), DialFailure.LOST),
            (ConnectError(osError=24), DialFailure.BROKEN),
            (ConnectionLost(), DialFailure.BROKEN),
            (ValueError("x"), DialFailure.BROKEN),
        ):
            error = translated(problem, "192.0.2.1:1")
            self.assertIs(error.failure, failure, problem)
            self.assertTrue(str(error).startswith("192.0.2.1:1: "), error)

    def test_text(self) -> None:
        """The text says each thing once."""
        self.assertEqual(
            str(translated(ConnectionRefusedError(osError=111), "192.0.2.1:1")),
            "192.0.2.1:1: connection refused",
        )
        self.assertIn("too many open files", str(translated(ConnectError(osError=24), "x")))

    def test_one_problem(self) -> None:
        """One problem alone is itself."""
        error = DialError(DialFailure.LOST, "x")
        self.assertIs(summed_up([error]), error)


class SocketTests(TestCase):
    """The same with real sockets."""

    def setUp(self) -> None:
        self.resolver = Resolver(reactor)  # type: ignore[arg-type]
        self.resolver.startService()
        self.addCleanup(self.resolver.stopService)
        self.dialer = DirectDialer(reactor, self.resolver, 30.0)  # type: ignore[arg-type]

    def listen(self) -> int:
        """A TCP listener of 127.0.0.1; its port."""
        port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def connected(self, target: Target) -> Protocol:
        """A connection to the target, which ends with the test."""
        ended: Deferred[None] = Deferred()

        class Ending(Protocol):
            """Says when it is over."""

            def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
                ended.callback(None)

        endpoint = self.dialer.endpoint_for(target, ANN)
        protocol = await endpoint.connect(Factory.forProtocol(Ending))
        assert isinstance(protocol, Ending)

        def end() -> Deferred[None]:
            assert protocol.transport is not None
            protocol.transport.loseConnection()
            return ended

        self.addCleanup(end)
        return protocol

    async def test_tcp(self) -> None:
        """A name of this machine is reached; small messages go out at once; keepalive is on."""
        protocol = await self.connected(Target("localhost", self.listen()))
        handle: socket.socket = protocol.transport.getHandle()  # type: ignore[union-attr]
        for level, option, value in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        ):
            self.assertEqual(handle.getsockopt(level, option), value)

    def socket_path(self) -> str:
        """Where nothing is yet, and short: a socket's path has 107 bytes at most."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return os.path.join(folder.name, "s")

    async def test_unix(self) -> None:
        """A UNIX socket is reached by its path."""
        path = self.socket_path()
        port = reactor.listenUNIX(path, Factory.forProtocol(Protocol))  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        protocol = await self.connected(Target(path, 5432))
        handle: socket.socket = protocol.transport.getHandle()  # type: ignore[union-attr]
        self.assertEqual(handle.getpeername(), path)

    async def assert_fails(self, target: Target, failure: DialFailure, text: str) -> None:
        """Dialling fails in that way."""
        endpoint = self.dialer.endpoint_for(target, ANN)
        error = await self.assertFailure(endpoint.connect(Factory.forProtocol(Protocol)), DialError)
        self.assertIs(error.failure, failure)
        self.assertEqual(str(error), text)

    async def test_refused(self) -> None:
        """Where nobody listens, that is told."""
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: nobody else gets the port
        number = taken.getsockname()[1]
        await self.assert_fails(
            Target("127.0.0.1", number),
            DialFailure.REFUSED,
            f"127.0.0.1:{number}: connection refused",
        )

    async def test_unix_failures(self) -> None:
        """No such socket, a socket of nobody, a path too long for one."""
        path = self.socket_path()
        await self.assert_fails(
            Target(path, 0),
            DialFailure.REFUSED,
            f"{path}: no such file or directory: connection refused",
        )
        orphan = socket.socket(socket.AF_UNIX)
        orphan.bind(path)
        orphan.close()
        await self.assert_fails(Target(path, 0), DialFailure.REFUSED, f"{path}: connection refused")
        long = "/" + "x" * 107
        await self.assert_fails(
            Target(long, 0),
            DialFailure.BROKEN,
            f"{long}: too long for a UNIX socket: the way there is broken",
        )
        longest = "/" + "x" * 106
        await self.assert_fails(
            Target(longest, 0),
            DialFailure.REFUSED,
            f"{longest}: no such file or directory: connection refused",
        )

    async def test_cancel(self) -> None:
        """A dial that is cancelled leaves no socket behind (trial looks at that)."""
        endpoint = self.dialer.endpoint_for(Target("127.0.0.1", self.listen()), ANN)
        dialling = endpoint.connect(Factory.forProtocol(Protocol))
        dialling.cancel()
        await self.assertFailure(dialling, CancelledError)
