"""
The WebSockets of agents: ours, which take them, and theirs, which dial.

autobahn does the protocol; here is what it is told (limits, subprotocols, no
compression of its own, since that would share a context between users) and
how an L{AgentSession} is joined to it. Once the WebSocket is open, whole binary
messages go past it, in as few copies as can be: its own way costs more than all else.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.protocol import WebSocketProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest, ConnectionResponse
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd import __version__
from proxyd.agents.hush import Hush
from proxyd.agents.masking import mask
from proxyd.agents.session import AgentSession
from proxyd.agents.sockets import HEADS, Outlet, keep_little_unsent, read_much
from proxyd.config.times import AGENT_HANDSHAKE, LINGER
from proxyd.errors import DialError, ProtocolError
from proxyd.net.tls import reason as tls_reason
from proxyd.wire.agent import frames, json_session
from proxyd.wire.agent.websocket import Frames, binary_head

_log = Logger()

PATH = "/agent"
"""Where agents come to."""

HEAD = 16 * 1024
"""Bytes of an HTTP head that does not end, after which nobody waits for its end."""

STRANGERS = 1000
"""WebSockets that may be on their way to be opened at a time; beyond that the oldest is closed."""

SUBPROTOCOLS = (frames.SUBPROTOCOL, json_session.SUBPROTOCOL)
"""What we can speak, best first."""

_BROKEN = 4002
_GOING = 1000

_OPTIONS: Mapping[str, Any] = {
    "maxFramePayloadSize": frames.MESSAGE_LIMIT,
    "maxMessagePayloadSize": frames.MESSAGE_LIMIT,
    "openHandshakeTimeout": AGENT_HANDSHAKE,
    # Its own timers outlive the connection; ours is below.
    "closeHandshakeTimeout": 0,
    "failByDrop": False,
    "utf8validateIncoming": True,
}


class _Wire:
    """What both kinds of WebSocket are to an L{AgentSession}."""

    log = Hush()
    session: AgentSession | None = None
    _leaving: IDelayedCall | None = None
    _incoming: Frames | None = None
    _outlet: Outlet | None = None

    def dataReceived(self: Any, data: bytes) -> None:
        """Take bytes; autobahn would keep all that comes in a head without an end, or too late."""
        if self.state == WebSocketProtocol.STATE_CLOSED:
            return
        if self.state == WebSocketProtocol.STATE_CONNECTING and len(self.data) > HEAD:
            self.abort()
            return
        if self.session is not None:
            self.session.heard()  # a message takes its time on a bad line
        if self._incoming is not None:
            self._take(data)
        else:
            # Not by way of its caller, which paints words for a log that is off.
            self._dataReceived(data)

    def consumeData(self: Any) -> None:
        """Go on with what is in C{data}: once the WebSocket is open, frame by frame."""
        if self.state not in (WebSocketProtocol.STATE_OPEN, WebSocketProtocol.STATE_CLOSING):
            super().consumeData()  # type: ignore[misc]
            return
        data, self.data = self.data, b""
        if self._incoming is None:
            self._incoming = Frames(self.factory.isServer, frames.MESSAGE_LIMIT, mask)
        self._take(data)

    def _take(self: Any, data: bytes) -> None:
        for whole, piece in self._incoming.receive_data(data):
            if whole:
                if self.state == WebSocketProtocol.STATE_OPEN:
                    self.onMessage(piece, True)
            else:
                self.data = bytes(piece)
                super().consumeData()  # type: ignore[misc]
            if self.state == WebSocketProtocol.STATE_CLOSED:
                return

    def dropConnection(self: Any, abort: bool = False) -> None:
        """Close the connection, within L{LINGER}: in TLS the peer would have to agree."""
        super().dropConnection(abort)  # type: ignore[misc]
        if not abort:
            self._leave()

    def send(self: Any, message: str) -> None:
        """Send a text message."""
        self.sendMessage(message.encode(), isBinary=False)

    def send_pieces(self: Any, pieces: Sequence[bytes | memoryview], size: int) -> None:
        """Send a binary message, which is in pieces, of so many bytes together."""
        if self.state != WebSocketProtocol.STATE_OPEN:
            return
        if self.factory.isServer:
            ready: Sequence[Any] = (binary_head(size), *pieces)
        else:
            key = secrets.token_bytes(4)
            head = binary_head(size, key)
            whole = bytearray().join((head, *pieces))
            mask(memoryview(whole)[len(head) :], key)
            ready = (whole,)
        self._outlet.write(ready)

    def ping(self: Any) -> None:
        """Ask whether the peer is there."""
        self.sendPing()

    def close(self: Any, reason: str) -> None:
        """Close in order."""
        self.farewell(_GOING, reason)

    def farewell(self: Any, code: int, reason: str) -> None:
        """Say why it ends, and wait for the answer no longer than L{LINGER}."""
        self.sendClose(code, reason[:100])
        self._leave()

    def _leave(self: Any) -> None:
        if self._leaving is None:
            self._leaving = self.factory.reactor.callLater(LINGER, self.abort)

    def abort(self: Any) -> None:
        """Close at once."""
        self.dropConnection(abort=True)
        # autobahn leaves alone what it has begun to close in order.
        self.transport.abortConnection()

    def begin(self: Any, session: AgentSession) -> None:
        """From here on all that comes is this session's."""
        self.session = session
        self._outlet = Outlet(self.transport)
        read_much(self.transport, HEADS)
        keep_little_unsent(self.transport)
        self.transport.registerProducer(session, True)
        session.ask()

    # autobahn's own of the next two paint words for a log that is off, and fire signals
    # that nobody hears, for each message.

    def sendData(self: Any, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Bytes go; in order with those that autobahn keeps back."""
        if sync or chopsize or self.send_queue:
            super().sendData(data, sync, chopsize)  # type: ignore[misc]
        else:
            self.transport.write(data)

    def onMessageEnd(self: Any) -> None:
        """The last frame of a message came."""
        pieces, self.message_data = self.message_data, None
        if not self.failedByMe:
            self._onMessage(b"".join(pieces), self.message_is_binary)

    def onMessage(self: Any, payload: bytes | bytearray | memoryview, isBinary: bool) -> None:
        """A whole message came."""
        session = self.session
        if session is None:
            return
        try:
            if isBinary == session.has_credit:
                session.message_received(payload if isBinary else bytes(payload).decode())
            elif not isBinary:
                session.text_received(bytes(payload).decode())
            else:
                self.farewell(_BROKEN, "binary messages are not spoken here")
        except ProtocolError as error:
            _log.warn("an agent's session broke the protocol: {reason}", reason=str(error))
            self.farewell(_BROKEN, str(error))

    def onPing(self: Any, payload: bytes) -> None:
        """The peer asks whether we are there; one that reads no answers gets none."""
        if self.session is None or not self.session.paused:
            self.sendPong(payload)

    def onPong(self: Any, payload: bytes) -> None:
        """The peer is there."""
        if self.session is not None:
            self.session.heard()

    def onClose(self: Any, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The WebSocket is gone."""
        if self._leaving is not None and self._leaving.active():
            self._leaving.cancel()
        session, self.session = self.session, None
        if session is not None:
            session.lost(reason or ("closed" if wasClean else "the connection was lost"))


class AgentServerProtocol(_Wire, WebSocketServerProtocol):  # type: ignore[misc]  # autobahn has no types
    """
    An agent's WebSocket, at our end.

    @ivar who: the agent's id, once it is admitted
    @ivar speaks: the subprotocol that it is spoken to by; None: it offered none
    @ivar agent_version: what it says it is
    """

    who = ""
    speaks: str | None = None
    agent_version = ""
    _told = False

    def connectionMade(self) -> None:
        """Somebody is here; nobody knows who."""
        super().connectionMade()
        self.factory.came(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self.factory.strangers.pop(self, None)
        super().connectionLost(reason)

    def turn_away(self) -> None:
        """Close it at once, without a line of its own: there are too many."""
        self._told = True
        self.abort()

    def onConnect(self, request: ConnectionRequest) -> Any:
        """Let it in, or say why not."""
        self._told = True
        try:
            if request.path != PATH:
                raise ConnectionDeny(404, "agents come to /agent")  # type: ignore[no-untyped-call]
            if request.headers.get("origin"):
                # A browser sends it, an agent does not: no page is to speak to us.
                raise ConnectionDeny(403, "not for browsers")  # type: ignore[no-untyped-call]
            return self.factory.admit(self, request)
        except ConnectionDeny as refusal:
            _log.warn("[{peer}] refused: {reason}", peer=self.peer, reason=refusal.reason)
            raise

    def onOpen(self) -> None:
        """It is open."""
        self.factory.strangers.pop(self, None)
        self.factory.opened(self)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """It is gone, or never was an agent."""
        super().onClose(wasClean, code, reason)
        if not self._told:
            self._told = True
            why = self.wasNotCleanReason or reason
            _log.info(
                "[{peer}] came to the agents' door, and was none: {why}", why=why, peer=self.peer
            )


class AgentServerFactory(WebSocketServerFactory):
    """
    Takes the WebSockets of agents.

    @param admit: decides about a request; returns the subprotocol (or None) or
        raises C{ConnectionDeny}; may be a Deferred
    @param opened: told when a WebSocket is open
    @param most: connections at a time
    @param strangers: of these, how many whose WebSocket is not open
    @ivar strangers: those that are not open, oldest first
    @ivar turned_away: how many were closed since there were too many of them
    """

    protocol = AgentServerProtocol
    noisy = False
    log = Hush()

    def __init__(
        self,
        admit: Callable[[AgentServerProtocol, ConnectionRequest], Any],
        opened: Callable[[AgentServerProtocol], None],
        most: int,
        strangers: int = STRANGERS,
    ) -> None:
        super().__init__(protocols=list(SUBPROTOCOLS), server="proxyd")  # type: ignore[no-untyped-call]
        self.admit = admit
        self.opened = opened
        self.strangers: dict[AgentServerProtocol, None] = {}
        self.turned_away = 0
        self._most_strangers = strangers
        self.setProtocolOptions(  # type: ignore[no-untyped-call]
            webStatus=False, maxConnections=most, requireMaskedClientFrames=True, **_OPTIONS
        )

    def came(self, stranger: AgentServerProtocol) -> None:
        """Somebody has connected; the oldest who is not let in yet may have to go."""
        self.strangers[stranger] = None
        if len(self.strangers) > self._most_strangers:
            oldest = next(iter(self.strangers))
            del self.strangers[oldest]
            self.turned_away += 1
            oldest.turn_away()


class AgentClientProtocol(_Wire, WebSocketClientProtocol):  # type: ignore[misc]  # autobahn has no types
    """Our WebSocket to a server, at the agent's end."""

    _why = ""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep what TLS has to say: autobahn tells it nobody."""
        error = reason.value
        if isinstance(error, DialError):
            self._why = str(error)
        elif isinstance(error, SSL.Error):
            self._why = f"TLS: {tls_reason(error)}"
        super().connectionLost(reason)

    def onConnect(self, response: ConnectionResponse) -> None:
        """The server has answered."""
        self.factory.answered = response.protocol

    def onOpen(self) -> None:
        """It is open."""
        self.factory.opened(self)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """It is gone, or never was."""
        super().onClose(wasClean, code, reason)
        self.factory.closed(self._why or reason or "the connection was lost")


class AgentClientFactory(WebSocketClientFactory):
    """
    One WebSocket to a server.

    @ivar ready: fires with the L{AgentClientProtocol} once it is open, or fails
        with C{ConnectionError}, whose text says why
    @ivar answered: the subprotocol that the server chose
    @ivar left: fires when the connection is gone, or never was
    """

    protocol = AgentClientProtocol
    noisy = False
    log = Hush()

    def __init__(self, url: str, token: str) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            url,
            protocols=[frames.SUBPROTOCOL],
            headers={"Authorization": f"Bearer {token}"},
            useragent=f"proxyd-agent/{__version__}",
        )
        self.answered: str | None = None
        self.ready: Deferred[AgentClientProtocol] = Deferred()
        self.left: Deferred[None] = Deferred()
        self.setProtocolOptions(**_OPTIONS)  # type: ignore[no-untyped-call]

    def opened(self, protocol: AgentClientProtocol) -> None:
        """It is open."""
        if not self.ready.called:
            self.ready.callback(protocol)

    def closed(self, reason: str) -> None:
        """It is gone."""
        if not self.ready.called:
            self.ready.errback(Failure(ConnectionError(reason)))  # type: ignore[no-untyped-call]
        if not self.left.called:
            self.left.callback(None)


def has_fast_masking() -> bool:
    """Whether autobahn masks in C; without it a megabyte costs a tenth of a second."""
    from autobahn.websocket import xormasker

    return bool(getattr(xormasker, "USES_NVX", False))
