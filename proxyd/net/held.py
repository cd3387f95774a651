"""
A connection of Twisted's, or of a way's, that was made for somebody else to carry.

An L{IUpstream<proxyd.interfaces.IUpstream>} connects a L{Held}; L{end_for}
makes of it an End of the link, whatever it stands on. One with a descriptor of
its own is lent it; any other gets a socket pair, whose far end is spliced to it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IStreamClientEndpoint,
    ISystemHandle,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.interfaces import ISocketEndpoint
from proxyd.net.end import End
from proxyd.net.link import Link
from proxyd.net.splice import Splice
from proxyd.net.subject import Subject


@implementer(IHalfCloseableProtocol)
class Held(Protocol):
    """
    A connection that is paused until somebody carries its bytes.

    What a way delivers all the same is kept.
    """

    def __init__(self) -> None:
        self._early: list[bytes] = []
        self._no_more = False
        self._lost: Failure | None = None
        self._splice: Splice | None = None

    def connectionMade(self) -> None:
        """Read nothing."""
        assert self.transport is not None
        self.transport.pauseProducing()  # type: ignore[attr-defined]

    def carried_by(self, splice: Splice) -> None:
        """Give everything to a splice from now on, and what came before first."""
        self._splice = splice
        for data in self._early:
            splice.from_way(data)
        self._early.clear()
        if self._no_more:
            splice.way_ended()
        if self._lost is not None:
            splice.way_lost(self._lost)

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        if self._splice is None:
            self._early.append(data)
        else:
            self._splice.from_way(data)

    def readConnectionLost(self) -> None:
        """The far side sends no more."""
        self._no_more = True
        if self._splice is not None:
            self._splice.way_ended()

    def writeConnectionLost(self) -> None:
        """What we had to send is sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self._lost = reason
        if self._splice is not None:
            self._splice.way_lost(reason)


class _HeldFactory(Factory):
    noisy = False
    protocol = Held


HELD = _HeldFactory()
"""What an endpoint is given to connect."""


def socket_of(transport: object) -> socket.socket | None:
    """The descriptor by which a transport reads and writes; None: there is something between."""
    if not ISystemHandle.providedBy(transport):
        return None
    handle: Any = transport.getHandle()
    return handle if isinstance(handle, socket.socket) else None


@dataclass(frozen=True, slots=True)
class Reached:
    """
    A connection that was made.

    @param end: the End on it, paused
    @param socket: what it stands on here: its own, or the near end of a pair
    @param local: host and port of our own side, as far as there is one
    @param peer: of the other side; None: it is reached by a way that can't say
    """

    end: End
    socket: socket.socket
    local: tuple[str, int]
    peer: tuple[str, int] | None


def reach(
    link: Link, reactor: Any, endpoint: IStreamClientEndpoint, subject: Subject
) -> Deferred[Reached]:
    """
    Connect, and get an End on it.

    Fails as the endpoint does; the caller sees to the deadline. The End may be
    closed already, where it was lost at once: its subject was told.

    @param reactor: adopts the far end of a socket pair
    """
    if ISocketEndpoint.providedBy(endpoint):
        sockets: Any = endpoint
        connecting: Deferred[socket.socket] = sockets.connect_socket(link)
        return connecting.addCallback(lambda sock: _on_socket(link, sock, subject))
    held: Deferred[Any] = endpoint.connect(HELD)
    return held.addCallback(lambda held: _on_transport(link, reactor, held, subject))


def _on_socket(link: Link, sock: socket.socket, subject: Subject) -> Reached:
    local, peer = sock.getsockname(), sock.getpeername()
    return Reached(End(link, sock, None, subject, paused=True), sock, local[:2], peer[:2])


def _on_transport(link: Link, reactor: Any, held: Held, subject: Subject) -> Reached:
    transport: Any = held.transport
    sides = []
    for side in (transport.getHost(), transport.getPeer()):
        tcp = isinstance(side, IPv4Address | IPv6Address)
        sides.append((side.host, side.port) if tcp else None)
    end, sock = _end_on(link, reactor, held, subject)
    return Reached(end, sock, sides[0] or ("0.0.0.0", 0), sides[1])


def end_for(link: Link, reactor: Any, held: Held, subject: Subject) -> End:
    """
    An End on a connection that was made, paused.

    @param reactor: adopts the far end of a socket pair
    """
    return _end_on(link, reactor, held, subject)[0]


def _end_on(link: Link, reactor: Any, held: Held, subject: Subject) -> tuple[End, socket.socket]:
    transport: Any = held.transport
    own = socket_of(transport)
    if own is not None:
        return End(link, own, transport, subject, paused=True), own
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    splice = Splice(transport, near)
    try:
        reactor.adoptStreamConnection(far.fileno(), socket.AF_UNIX, splice.factory())
    finally:
        far.close()
    splice.end = End(link, near, splice, subject, paused=True, carrier=splice)
    transport.resumeProducing()
    held.carried_by(splice)
    return splice.end, near
