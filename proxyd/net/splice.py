"""
A way without a descriptor, joined to one end of a socket pair.

The other end is an End of the link, so that there is one relay, one rate and
one TLS for every way. Each side is paused while the other has not taken what
it was given.

The pair is where bytes wait. As long as nothing waits, they need not go through
it: what the link sends goes to the way in the same call, and what the way
brings to whatever the End is joined to.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.net.at_once import send_at_once
from proxyd.net.end import End
from proxyd.net.line import CHUNK


@implementer(IPushProducer)
class Splice:
    """
    Carries bytes between a way's transport and the far end of a socket pair.

    It owns the near end, which the link borrows, and is what the End sends by
    (L{Carrier<proxyd.net.subject.Carrier>}).

    @ivar end: the End on the near end
    """

    end: End

    def __init__(self, way: Any, near: socket.socket) -> None:
        """
        @param way: an L{IStream<proxyd.interfaces.IStream>}
        @param near: the end of the pair that the link has
        """
        self._way = way
        self._near = near
        self._pair: Any = None
        self.recv_into = near.recv_into
        # Bytes from the link that are in the pair, and all that the way has brought.
        self._in_pair = 0
        self._brought = 0
        self._full = False
        self._ended = False
        self._over = False

    def factory(self) -> Factory:
        """Makes the protocol of the far end of the pair."""
        return _PairFactory(self)

    # The link's side: it owns what the End stands on

    def send(self, data: bytes | memoryview) -> int:
        """Give bytes; to the way itself where it takes them, and none wait before them."""
        if self._full or self._in_pair or self._over:
            sent = self._near.send(data)
            self._in_pair += sent
            return sent
        taken = bytes(data[:CHUNK])
        self._way.write(taken)
        return len(taken)

    def loseConnection(self) -> None:
        """
        The End is closed: what it has sent still goes on its way, then it ends.

        All of it is given to the way at once, however full that is: how long a
        far side that takes nothing is waited for is the way's affair.
        """
        self._near.close()
        if self._over:
            return
        if not self._ended:
            self._empty_pair()
        self._end(abort=False)

    def abortConnection(self) -> None:
        """The End is reset: so is the way."""
        self._near.close()
        self._end(abort=True)

    # The pair's side

    def pair_made(self, transport: Any) -> None:
        """The far end of the pair is in Twisted's hands."""
        self._pair = transport
        # As much at once as the link gives.
        transport.bufferSize = transport.SEND_LIMIT = CHUNK
        transport.registerProducer(self._way, True)
        self._way.registerProducer(self, True)

    def from_pair(self, data: bytes) -> None:
        """The link has sent something."""
        self._in_pair -= len(data)
        self._way.write(data)

    def pair_ended(self) -> None:
        """The link sends no more."""
        if not self._over and not self._ended:
            self._ended = True
            self._way.unregisterProducer()
            self._way.loseWriteConnection()

    # The way's side

    def from_way(self, data: bytes) -> None:
        """The way has brought something."""
        if self._over:
            return
        end = self.end
        none_waits = end.received == self._brought
        self._brought += len(data)
        if none_waits and end.take_in(data):
            return
        left = send_at_once(self._pair.socket, self._pair, (data,))
        if left:
            self._pair.write(left)

    def pauseProducing(self) -> None:
        """The way takes no more for now: what the link sends waits in the pair."""
        self._full = True
        self._pair.pauseProducing()

    def resumeProducing(self) -> None:
        """The way takes more, first of all what is in the pair."""
        self._full = False
        self._pair.resumeProducing()

    def stopProducing(self) -> None:
        """The way takes no more at all; how it ended is told by L{way_lost}."""
        self._pair.stopProducing()

    def way_ended(self) -> None:
        """The way brings no more."""
        if not self._over:
            self._pair.unregisterProducer()
            self._pair.loseWriteConnection()

    def way_lost(self, reason: Failure) -> None:
        """The way is over."""
        if self._over:
            return
        self._over = True
        self._pair.unregisterProducer()
        if isinstance(reason.value, ConnectionDone):
            self._pair.loseConnection()
        else:
            self._pair.abortConnection()
            self.end.break_off(reason.getErrorMessage())

    def _empty_pair(self) -> None:
        """Hand on all that is in the pair, whose near end is closed: no more than it holds."""
        receive = self._pair.socket.recv
        try:
            while data := receive(CHUNK):
                self._way.write(data)
        except OSError:
            return  # the near end was closed with bytes unread in it: a reset, behind all the rest

    def _end(self, *, abort: bool) -> None:
        if self._over:
            return
        self._over = True
        self._pair.unregisterProducer()
        self._pair.abortConnection()
        self._way.unregisterProducer()
        if abort:
            self._way.abortConnection()
        else:
            # What it still brings is thrown away: a far side that waits to send may not read.
            self._way.resumeProducing()
            self._way.loseConnection()


@implementer(IHalfCloseableProtocol)
class _Pair(Protocol):
    """The far end of the pair."""

    def __init__(self, splice: Splice) -> None:
        self._splice = splice

    def connectionMade(self) -> None:
        """Begin."""
        self._splice.pair_made(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """The link has sent something."""
        self._splice.from_pair(data)

    def readConnectionLost(self) -> None:
        """The link sends no more."""
        self._splice.pair_ended()

    def writeConnectionLost(self) -> None:
        """All is in the link's hands."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The near end is closed."""
        self._splice.pair_ended()


class _PairFactory(Factory):
    noisy = False

    def __init__(self, splice: Splice) -> None:
        self._splice = splice

    def buildProtocol(self, addr: object) -> Protocol:
        """The one protocol."""
        return _Pair(self._splice)
