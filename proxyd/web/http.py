"""
HTTP as the API speaks it: Twisted's, with limits on all that a client may send.

What Twisted leaves open is closed here: the size of a body is looked at before
it is read, whoever sends too slowly is sent away, connections have a maximum,
and every refusal is JSON.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import NO_CONTENT, HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from proxyd.config.times import API_IDLE, API_LINGER, API_REQUEST
from proxyd.web.answer import JSON, ApiError, phrase

_log = Logger()

BODY_LIMIT = 128 * 1024
"""Bytes of a body: a token of 64 KB, and room around it."""

HEADER_LIMIT = 16 * 1024
"""Bytes of the request line and all headers; each line has at most as many."""

HEADERS = 100
LINGER_BYTES = 1024 * 1024
"""Of what it still sends meanwhile so much is thrown away; more is not read."""

CLIENTS = 256
"""Connections at a time."""


class ApiRequest(Request):
    """
    One request.

    @ivar route: the call it is, by L{Route.key<proxyd.web.route.Route.key>}; for logs and metrics
    @ivar gone: the client is no longer there
    """

    content: io.BytesIO
    channel: ApiChannel
    route = ""
    gone = False

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: it may hold secrets, and it has a limit."""
        self.content = io.BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body, if it is not too much."""
        if self.content.tell() + len(data) > BODY_LIMIT:
            self.channel.refuse(_too_large())
            return
        self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """A request is here: its body is JSON, whatever the Content-Type says."""
        # Twisted would take forms apart, and refuse those that are none.
        self.requestHeaders.removeHeader(b"content-type")
        super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def _handleStar(self) -> None:
        """C{OPTIONS *} (RFC 9110, section 9.3.7): Twisted's answer has its name, and no JSON."""
        if self.method == b"OPTIONS":
            self.setResponseCode(NO_CONTENT)
            self.prepare(JSON, 0)
        else:
            self.send(ApiError(405, "* takes OPTIONS", headers={"Allow": "OPTIONS"}))
        self.finish()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        """The client left before it had its answer."""
        self.gone = True
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def processingFailed(self, reason: Failure) -> None:
        """A bug: the answer is JSON, and tells nothing."""
        _log.failure("a request failed", reason)
        if not self.gone and not self.startedWriting:
            self.send(ApiError(500, "proxyd failed: its log says how"))
            self.finish()  # type: ignore[no-untyped-call]

    def send(self, error: ApiError) -> None:
        """Write an error as the whole answer."""
        answer = error.answer()
        body = answer.body()
        self.setResponseCode(answer.status, phrase(answer.status))
        for name, value in answer.headers.items():
            self.responseHeaders.setRawHeaders(name, [value])
        self.prepare(JSON, len(body))
        self.write(body)  # type: ignore[no-untyped-call]

    def prepare(self, kind: str, length: int) -> None:
        """Set the headers that every answer has."""
        headers = self.responseHeaders
        headers.setRawHeaders("Server", ["proxyd"])
        if self.code != NO_CONTENT:
            headers.setRawHeaders("Content-Type", [kind])
            headers.setRawHeaders("Content-Length", [str(length)])
        headers.setRawHeaders("Cache-Control", ["no-store"])
        headers.setRawHeaders("X-Content-Type-Options", ["nosniff"])


class ApiChannel(HTTPChannel):
    """One connection of a client's."""

    maxHeaders = HEADERS
    totalHeadersSize = HEADER_LIMIT
    MAX_LENGTH = HEADER_LIMIT
    abortTimeout = 5
    site: ApiSite
    transport: Any
    peer_user: int | None = None
    _refused = False
    _thrown = 0
    _receiving: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """A client is here; it may be one too many."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        if not self.site.entered(self):
            self.refuse(ApiError(503, "too many connections: try again", "too_many"))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """It has gone."""
        self.site.left(self)
        self._received_all()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """Take what the client sends; a request's time begins with its first byte."""
        if self._refused:
            self._throw_away(len(data))
            return
        if self._receiving is None and not self._handlingRequest:
            self._receiving = self._later(API_REQUEST, self._too_slow)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def lineReceived(self, line: bytes) -> None:
        """Take a line of the head."""
        if not self._refused:
            super().lineReceived(line)  # type: ignore[no-untyped-call]

    def rawDataReceived(self, data: bytes) -> None:
        """Take a piece of the body, or of what comes after it."""
        if not self._refused:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line of the head does not end."""
        self.refuse(ApiError(431, "the request's head is too large"))

    def allHeadersReceived(self) -> None:
        """The head is here: refuse a body that is too large, before any of it is asked for."""
        if self.length is not None and self.length > BODY_LIMIT:
            self.refuse(_too_large())
            return
        super().allHeadersReceived()  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        """The request is here as a whole."""
        self._received_all()
        if not self._refused:
            super().allContentReceived()  # type: ignore[no-untyped-call]

    def loseConnection(self) -> None:
        """Close when all is sent; who does not take it, or stays on in TLS, is cut off later."""
        if self._abortingCall is None:
            self._cut_in(API_IDLE, self.forceAbortClient)
        super().loseConnection()  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        """Nothing has come for a long time."""
        self._cut_in(self.abortTimeout, self.forceAbortClient)
        self.loseConnection()

    def forceAbortClient(self) -> None:
        """It did not close when we did."""
        self._abortingCall = None
        self.transport.abortConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Twisted's parser gave up."""
        if self._receivedHeaderSize > HEADER_LIMIT or self._receivedHeaderCount > HEADERS:
            self.refuse(ApiError(431, "the request's head is too large"))
        else:
            self.refuse(ApiError(400, "this is not HTTP that can be understood"))

    def refuse(self, error: ApiError) -> None:
        """Answer with an error, and close; for a moment the client may still read why."""
        if self._refused:
            return
        self._refused = True
        self._received_all()
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        answer = error.answer()
        body = answer.body()
        self.site.counted("", answer.status)
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nServer: proxyd\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%s"
            % (answer.status, phrase(answer.status), len(body), body)
        )
        # Closing at once would be a reset while the client still sends: it might not read this.
        self._cut_in(API_LINGER, self._lingered)

    def _throw_away(self, count: int) -> None:
        """A refused client still sends: its own kernel may keep what is more than a little."""
        self._thrown += count
        if self._thrown > LINGER_BYTES:
            self.transport.pauseProducing()

    def _cut_in(self, seconds: float, call: Callable[[], object]) -> None:
        if self._abortingCall is not None:
            self._abortingCall.cancel()
        self._abortingCall = self._later(seconds, call)

    def _later(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        later: IDelayedCall = self.callLater(seconds, call)  # type: ignore[no-untyped-call]
        return later

    def _lingered(self) -> None:
        self._abortingCall = None
        self.timeoutConnection()

    def _too_slow(self) -> None:
        self._receiving = None
        self.refuse(ApiError(408, "the request did not come in time"))

    def _received_all(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None


class ApiSite(Site):
    """
    All connections to the API of one kind of listener.

    @ivar clients: the connections that are open
    """

    requestFactory = ApiRequest
    noisy = False

    def __init__(
        self,
        resource: IResource,
        reactor: Any,
        counted: Callable[[str, int], object],
        limit: int = CLIENTS,
    ) -> None:
        """
        @param counted: told of each answer: which call (empty: none that is known), the status
        @param limit: connections at a time
        """
        super().__init__(resource, reactor=reactor, timeout=API_IDLE)  # type: ignore[no-untyped-call]
        # Plain HTTP/1.1: nothing is gained by HTTP/2 here, and its limits are others.
        self.protocol = ApiChannel  # type: ignore[method-assign,assignment]
        self.counted = counted
        self.clients: set[ApiChannel] = set()
        self._limit = limit
        self._empty: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> ApiChannel:  # type: ignore[override]
        """The channel of a client."""
        channel: Any = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        assert isinstance(channel, ApiChannel)
        return channel

    def entered(self, channel: ApiChannel) -> bool:
        """A client came; whether there is room for it."""
        self.clients.add(channel)
        return len(self.clients) <= self._limit

    def left(self, channel: ApiChannel) -> None:
        """A client has gone."""
        self.clients.discard(channel)
        if not self.clients and self._empty is not None:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def close(self) -> Deferred[None]:
        """End every connection; fires when none is left."""
        empty: Deferred[None] = Deferred()
        if not self.clients:
            empty.callback(None)
            return empty
        self._empty = empty
        for channel in list(self.clients):
            channel.transport.abortConnection()
        return empty

    def startFactory(self) -> None:
        """Twisted would open its log file here, and keep the date for it."""

    def stopFactory(self) -> None:
        """Nothing was opened."""

    def log(self, request: ApiRequest) -> None:  # type: ignore[override]
        """A request was answered: never its URL, which may hold what is nobody's business."""
        self.counted(request.route, request.code)
        _log.debug("{route}: {status}", route=request.route or "no such call", status=request.code)


def _too_large() -> ApiError:
    return ApiError(413, f"the body has more than {BODY_LIMIT} bytes")
