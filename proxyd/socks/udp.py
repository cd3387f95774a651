"""
UDP ASSOCIATE: a client's datagrams, each judged by the rules (RFC 1928, section 7).

Only the direct way carries datagrams. The association lives as long as the TCP
connection that asked for it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.config.times import UDP_VERDICT
from proxyd.errors import DialError, ProtocolError
from proxyd.interfaces import Passage
from proxyd.net.link import Link
from proxyd.rules.routes import DIRECT
from proxyd.socks.allowances import rates_of
from proxyd.socks.client import Work
from proxyd.socks.replies import Refused
from proxyd.target import Target
from proxyd.wire.socks.datagram import Datagram, read_datagram, write_datagram
from proxyd.wire.socks.words import Asked, Refusal

if TYPE_CHECKING:
    from proxyd.socks.client import SocksClient
    from proxyd.socks.listener import SocksListener

_log = Logger()

LONGEST = 65535
"""Bytes that a datagram may have, its header included."""

KNOWN = 256
"""Targets whose verdict is remembered for one association, and as many peers."""

WAITING = 32
"""Datagrams that may wait for a name to be looked up; more are dropped."""

_AT_ONCE = 64

Place = tuple[str, int]


@implementer(IReadDescriptor)
class _Datagrams:
    """A UDP socket in the link."""

    def __init__(
        self, link: Link, sock: socket.socket, arrived: Callable[[bytes, Place], None]
    ) -> None:
        self.socket = sock
        self._link = link
        self._arrived = arrived
        link.addReader(self)

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "udp"

    def connectionLost(self, reason: object) -> None:
        """The link lets go of it."""

    def doRead(self) -> None:
        """Take what has arrived, up to a bound."""
        for _ in range(_AT_ONCE):
            try:
                data, place = self.socket.recvfrom(LONGEST)
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier datagram was refused (ICMP): no matter
            self._arrived(data, place[:2])

    def close(self) -> None:
        """No more."""
        self._link.removeReader(self)
        self.socket.close()


class UdpAssociation(Work):
    """
    What one client sends and is sent.

    @ivar dropped: datagrams that were not sent on: denied, malformed, too many
    """

    def __init__(self, listener: SocksListener, client: SocksClient, asked: Asked) -> None:
        """@param asked: names the port that the client will send from, or 0"""
        self._listener = listener
        self._client = client
        self._from_port = asked.port
        self._near: _Datagrams | None = None
        self._out: dict[int, _Datagrams] = {}
        self._client_place: Place | None = None
        self._verdicts: dict[Place, tuple[float, Place | None]] = {}
        self._peers: dict[Place, None] = {}
        self._waiting: dict[Deferred[Any], int] = {}
        self.dropped = self.up = self.down = 0

    def begin(self) -> None:
        """
        Open a port for the client, and tell it.

        @raise Refused: nothing goes the direct way, or there is no port
        """
        client = self._client
        if not self._listener.router.goes_direct(client.principal.user):
            raise Refused(Refusal.COMMAND, "no way of this client's carries datagrams")
        host, _ = client.end.local_address
        if not host:
            raise Refused(Refusal.COMMAND, "there are no datagrams by a UNIX socket")
        try:
            self._near = self._open(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
        except OSError as error:
            raise Refused(Refusal.GENERAL, f"no UDP port: {error.strerror}") from None
        client.answer(*self._near.socket.getsockname()[:2])

    def stop(self) -> None:
        """The client is gone."""
        for waiting in list(self._waiting):
            waiting.cancel()
        for one in (self._near, *self._out.values()):
            if one is not None:
                one.close()
        self._near = None
        self._out.clear()

    def _open(self, family: int, host: str) -> _Datagrams:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, 0))
        except OSError:
            sock.close()
            raise
        near = self._near is None
        return _Datagrams(self._listener.link, sock, self._from_client if near else self._from_peer)

    # From the client

    def _from_client(self, data: bytes, place: Place) -> None:
        """A datagram came to the port that was opened for the client."""
        if self._client_place is None:
            # Only the host of the TCP connection, and from the port it named, if it did.
            if not self._may_be_client(place):
                self.dropped += 1
                return
            self._client_place = place
        if place != self._client_place:
            self.dropped += 1
            return
        try:
            datagram = read_datagram(data)
        except ProtocolError:
            self.dropped += 1
            return
        self._judge(datagram)

    def _may_be_client(self, place: Place) -> bool:
        host = place[0].removeprefix("::ffff:")
        return host == self._client.source and self._from_port in (0, place[1])

    def _judge(self, datagram: Datagram) -> None:
        """Send it on, if the rules let it go there."""
        place = (datagram.host, datagram.port)
        now = self._listener.clock.seconds()
        known = self._verdicts.get(place)
        if known is not None and now < known[0]:
            self._send(datagram.payload, known[1])
            return
        if len(self._waiting) >= WAITING or datagram.host.startswith("/"):
            self.dropped += 1
            return
        finding = self._listener.router.find(Target(*place), self._client.principal)
        self._waiting[finding] = 1
        finding.addCallbacks(self._found, self._denied)
        finding.addBoth(partial(self._judged, finding, place, datagram.payload))

    def _found(self, passage: Passage) -> Place | None:
        if passage.way != DIRECT or not passage.addresses:
            return None
        return passage.addresses[0], passage.target.port

    def _denied(self, failure: Failure) -> Place | None:
        if not isinstance(failure.value, DialError | CancelledError):
            _log.failure("a datagram could not be judged", failure)
        return None

    def _judged(self, finding: Deferred[Any], place: Place, payload: bytes, to: Any) -> None:
        self._waiting.pop(finding, None)
        if self._near is None:
            return
        if len(self._verdicts) >= KNOWN:
            del self._verdicts[next(iter(self._verdicts))]
        self._verdicts[place] = (self._listener.clock.seconds() + UDP_VERDICT, to)
        self._send(payload, to)

    def _send(self, payload: bytes, to: Place | None) -> None:
        if to is None or not self._within(len(payload), 0):
            self.dropped += 1
            return
        family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
        try:
            out = self._out.get(family)
            if out is None:
                anywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"
                out = self._out[family] = self._open(family, anywhere)
            out.socket.sendto(payload, to)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EMSGSIZE):
                _log.debug("a datagram was not sent: {reason}", reason=error.strerror)
            self.dropped += 1
            return
        self.up += len(payload)
        self._peers.pop(to, None)
        self._peers[to] = None
        if len(self._peers) > KNOWN:
            del self._peers[next(iter(self._peers))]

    # To the client

    def _from_peer(self, data: bytes, place: Place) -> None:
        """A datagram came from outside: only from whom the client has written to."""
        near, client = self._near, self._client_place
        if near is None or client is None or place not in self._peers:
            self.dropped += 1
            return
        if not self._within(len(data), 1):
            self.dropped += 1
            return
        try:
            near.socket.sendto(write_datagram(Datagram(place[0], place[1], data)), client)
        except OSError:
            self.dropped += 1
            return
        self.down += len(data)

    def _within(self, size: int, direction: int) -> bool:
        """Whether the rates of the client let so much pass now: a datagram does not wait."""
        rates = rates_of(self._client.allowances, direction)
        return max((rate.spend(size) for rate in rates), default=0.0) == 0.0
