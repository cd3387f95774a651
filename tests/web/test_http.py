"""
Tests for L{proxyd.web.http}: what a client may send, and for how long.

No socket: bytes go into a channel whose transport is in memory and whose time
is the test's.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from proxyd.config.times import API_IDLE, API_LINGER, API_REQUEST
from proxyd.web.answer import ERROR
from proxyd.web.http import (
    BODY_LIMIT,
    HEADER_LIMIT,
    HEADERS,
    LINGER_BYTES,
    ApiChannel,
    ApiRequest,
    ApiSite,
)
from proxyd.web.schema import wrong_with

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Echo(Resource):
    """Answers with the length of the body, or not at all."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []
        self.slow = False
        self.requests: list[ApiRequest] = []

    def render(self, request: Any) -> Any:
        """Take note of the body."""
        self.requests.append(request)
        if request.path == b"/bug":
            raise ZeroDivisionError("hunter2")
        body = request.content.read()
        self.bodies.append(body)
        return NOT_DONE_YET if self.slow else b"%d" % len(body)


class Transport(StringTransportWithDisconnection):
    """A transport that can be ended at once, too."""

    aborted = False

    def abortConnection(self) -> None:
        """Reset."""
        self.aborted = True
        if self.connected:
            self.loseConnection()


class ChannelCase(SynchronousTestCase):
    """A site, and clients that say what a test wants."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.echo = Echo()
        self.counted: list[tuple[str, int]] = []
        self.site = ApiSite(
            self.echo, self.clock, lambda route, status: self.counted.append((route, status)), 3
        )

    def client(self) -> tuple[ApiChannel, Transport]:
        """A client that has just connected."""
        channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        transport = Transport()
        transport.protocol = channel
        channel.makeConnection(transport)
        return channel, transport

    def sent(self, *data: bytes) -> bytes:
        """What a client is answered that sends this."""
        channel, transport = self.client()
        for piece in data:
            channel.dataReceived(piece)
        answer: bytes = transport.value()
        if transport.connected:
            transport.loseConnection()
        return answer

    def assert_refused(self, answer: bytes, status: int) -> None:
        """An answer is one error in JSON, and the last on its connection."""
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % status), head[:60])
        self.assertIn(b"Connection: close", head)
        self.assertIn(b"Content-Length: %d" % len(body), head)
        self.assertEqual(list(wrong_with(json.loads(body), ERROR)), [])


class LimitTests(ChannelCase):
    """How much a client may send."""

    def test_body_that_fits(self) -> None:
        """The largest body that is allowed comes through whole."""
        body = b"x" * BODY_LIMIT
        self.sent(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body), body)
        self.assertEqual(self.echo.bodies, [body])

    def test_announced_body_too_large(self) -> None:
        """It is refused by what the head says, before a byte of it, and none is asked for."""
        for length in (BODY_LIMIT + 1, 10**12):
            head = (
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            )
            answer = self.sent(head % length)
            self.assert_refused(answer, 413)
            self.assertNotIn(b"100 Continue", answer)
        self.assertEqual(self.echo.bodies, [])

    def test_chunked_body_too_large(self) -> None:
        """One that does not say its length is refused when it is too much, and not kept."""
        channel, transport = self.client()
        channel.dataReceived(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            channel.dataReceived(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
        self.assert_refused(transport.value(), 413)
        self.assertEqual(self.echo.bodies, [])
        self.assertEqual(self.counted, [("", 413)])

    def test_chunked_body(self) -> None:
        """One that fits is taken."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.sent(head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
        self.assertEqual(self.echo.bodies, [b"abcde"])

    def test_head_too_large(self) -> None:
        """A line without end, too many bytes, and too many headers are 431."""
        self.assert_refused(self.sent(b"GET /" + b"x" * (HEADER_LIMIT + 10)), 431)
        line = b"X: " + b"x" * 1000 + b"\r\n"
        self.assert_refused(self.sent(b"GET / HTTP/1.1\r\n" + line * 20 + b"\r\n"), 431)
        many = b"".join(b"X-%d: 1\r\n" % number for number in range(HEADERS + 2))
        self.assert_refused(self.sent(b"GET / HTTP/1.1\r\n" + many + b"\r\n"), 431)

    def test_no_http(self) -> None:
        """What is no HTTP is 400, in JSON."""
        for data in (
            b"hello\r\n\r\n",
            b"GET / HTTP/1.1\r\nno header\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        ):
            self.assert_refused(self.sent(data), 400)
        self.assertEqual(self.echo.bodies, [])

    def test_connections(self) -> None:
        """One too many is told so; when another leaves there is room again."""
        clients = [self.client() for _ in range(3)]
        channel, transport = self.client()
        self.assert_refused(transport.value(), 503)
        channel.dataReceived(GET)
        self.assertEqual(self.echo.bodies, [])
        clients[0][1].loseConnection()
        transport.loseConnection()
        self.assertIn(b"200 OK", self.sent(GET))


class TimeTests(ChannelCase):
    """How long a client may take."""

    def test_slow_head(self) -> None:
        """A byte a second keeps nobody in: the time is for the request as a whole."""
        channel, transport = self.client()
        for second in range(int(API_REQUEST) + 1):
            channel.dataReceived(GET[second : second + 1])
            self.clock.advance(1)
        self.assert_refused(transport.value(), 408)

    def test_slow_body(self) -> None:
        """Nor does a body that comes in drops."""
        channel, transport = self.client()
        channel.dataReceived(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(int(API_REQUEST)):
            channel.dataReceived(b"x")
            self.clock.advance(1)
        self.assert_refused(transport.value(), 408)
        self.assertEqual(self.echo.bodies, [])

    def test_each_request_has_its_own_time(self) -> None:
        """A connection that is kept may be used for longer than one request may take."""
        channel, transport = self.client()
        for _ in range(5):
            channel.dataReceived(GET)
            self.clock.advance(API_REQUEST - 1)
        self.assertEqual(transport.value().count(b"200 OK"), 5)
        self.assertTrue(transport.connected)

    def test_silence(self) -> None:
        """Who says nothing at all is let go, without a word."""
        transport = self.client()[1]
        self.clock.advance(API_IDLE + 1)
        self.assertFalse(transport.connected)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(self.site.clients, set())

    def test_closing_for_ever(self) -> None:
        """Who asks for the last answer, and then neither takes it nor agrees to the end of TLS."""
        channel, transport = self.client()
        transport.loseConnection = lambda: None
        channel.dataReceived(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.assertIn(b"200 OK", transport.value())
        self.clock.advance(API_IDLE - 1)
        self.assertFalse(transport.aborted)
        self.clock.advance(2)
        self.assertTrue(transport.aborted)
        channel.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_answer(self) -> None:
        """While we think, the client may be silent."""
        self.echo.slow = True
        channel, transport = self.client()
        channel.dataReceived(GET)
        self.clock.advance(API_IDLE * 2)
        self.assertTrue(transport.connected)
        transport.loseConnection()

    def test_lingering(self) -> None:
        """A refused client's bytes are thrown away for a moment, so that it reads why."""
        channel, transport = self.client()
        channel.dataReceived(b"hello\r\n\r\n")
        answer = transport.value()
        for _ in range(10):
            channel.dataReceived(b"x" * 100_000)
        self.clock.advance(API_LINGER - 0.1)
        self.assertTrue(transport.connected)
        self.clock.advance(0.2)
        self.assertFalse(transport.connected)
        self.assertEqual(transport.value(), answer)

    def test_flood(self) -> None:
        """One that goes on sending for all it can is not read any more."""
        channel, transport = self.client()
        channel.dataReceived(b"hello\r\n\r\n")
        for _ in range(LINGER_BYTES // 100_000):
            channel.dataReceived(b"x" * 100_000)
        self.assertEqual(transport.producerState, "producing")
        channel.dataReceived(b"x" * 100_000)
        self.assertEqual(transport.producerState, "paused")
        self.clock.advance(API_LINGER)
        self.assertFalse(transport.connected)

    def test_nothing_is_left(self) -> None:
        """When a client has gone, no timer waits for it, at whatever point it went."""
        for data in (
            b"",
            b"GET",
            GET,
            b"hello\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        ):
            channel, transport = self.client()
            channel.dataReceived(data)
            transport.loseConnection()
            self.assertEqual(self.clock.getDelayedCalls(), [], data)
        self.assertEqual(self.site.clients, set())


class AnswerTests(ChannelCase):
    """What is answered."""

    def test_bug(self) -> None:
        """A bug of ours is 500 in JSON, without its text, and the log has it."""
        answer = self.sent(b"GET /bug HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 500 "), answer)
        value = json.loads(answer.partition(b"\r\n\r\n")[2])
        self.assertEqual(value["error"]["code"], "internal")
        self.assertNotIn(b"hunter2", answer)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_star(self) -> None:
        """C{*} is answered by us: an error in JSON, and nobody's name but ours."""
        answer = self.sent(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 204 "), answer)
        self.assertNotIn(b"Twisted", answer)
        answer = self.sent(b"DELETE * HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 405 "), answer)
        self.assertIn(b"Allow: OPTIONS\r\n", answer)
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        self.assertEqual(list(wrong_with(body, ERROR)), [])
        self.assertNotIn(b"Twisted", answer)

    def test_forms_are_left_alone(self) -> None:
        """A body that calls itself a form is not taken apart."""
        head = (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 4\r\n\r\n"
        )
        self.assertIn(b"200 OK", self.sent(head, b"--x\r"))
        self.assertEqual(self.echo.requests[0].args, {})

    def test_pipelined(self) -> None:
        """Requests sent at once are answered in order."""
        answer = self.sent(GET * 3)
        self.assertEqual(answer.count(b"200 OK"), 3)
        self.assertEqual(self.counted, [("", 200)] * 3)

    def test_old_client(self) -> None:
        """HTTP/1.0 is answered, and closed."""
        channel, transport = self.client()
        channel.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
        self.assertIn(b"200 OK", transport.value())
        self.assertFalse(transport.connected)

    def test_close(self) -> None:
        """A site that closes ends all its connections, and says when."""
        transports = [self.client()[1] for _ in range(3)]
        done = self.site.close()
        self.successResultOf(done)
        self.assertTrue(all(transport.aborted for transport in transports))
        self.successResultOf(self.site.close())
