"""
BIND: a connection that comes from outside, from the one peer that the client named.

As old FTP needs it (RFC 1928, section 4). Served only where C{socks5.bind} is
true, and only where the direct way leads to that peer.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from proxyd.interfaces import Passage
from proxyd.net.end import End
from proxyd.net.listening import set_options
from proxyd.rules.hosts import address_of
from proxyd.rules.routes import DIRECT
from proxyd.socks.client import Work
from proxyd.socks.replies import Refused
from proxyd.wire.socks.words import Asked, Refusal

if TYPE_CHECKING:
    from proxyd.socks.client import SocksClient
    from proxyd.socks.listener import SocksListener


@implementer(IReadDescriptor)
class Bind(Work):
    """A port that waits for one peer, up to the deadline of a dial."""

    def __init__(self, listener: SocksListener, client: SocksClient, asked: Asked) -> None:
        self._listener = listener
        self._client = client
        self._asked = asked
        self._socket: socket.socket | None = None
        self._allowed: frozenset[Any] = frozenset()

    def begin(self) -> None:
        """
        Ask the rules about the peer, then open a port.

        @raise Refused: the peer is no host
        """
        finding = self._client.find(self._asked)
        finding.addCallback(self._found)
        finding.addErrback(self._client.dial_failed)

    def _found(self, passage: Passage) -> None:
        if passage.way != DIRECT:
            raise Refused(Refusal.COMMAND, f"the way by {passage.way} carries no BIND")
        self._client.admit(passage)
        self._allowed = frozenset(map(address_of, passage.addresses))
        host = passage.addresses[0]
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            set_options(self._socket)
            self._socket.bind((_local_for(family, host, self._asked.port), 0))
            self._socket.listen(4)
        except OSError as error:
            self._close()
            raise Refused(Refusal.GENERAL, f"no port: {error.strerror}") from None
        self._listener.link.addReader(self)
        self._client.answer(*self._socket.getsockname()[:2])

    def stop(self) -> None:
        """The client is gone, or has its peer."""
        if self._socket is not None:
            self._listener.link.removeReader(self)
        self._close()

    def _close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def fileno(self) -> int:
        """The listening descriptor."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """The name that a log uses."""
        return "bind"

    def connectionLost(self, reason: object) -> None:
        """The link lets go of it."""

    def doRead(self) -> None:
        """Somebody comes: the named peer, or one that is sent away."""
        if self._socket is None:
            return
        try:
            sock, place = self._socket.accept()
        except OSError:
            return
        if address_of(str(place[0])) not in self._allowed:
            sock.close()
            return
        sock.setblocking(False)
        self.stop()
        client = self._client
        client.work_done()
        end = End(self._listener.link, sock, None, client, paused=True)
        client.join(end, str(place[0]), int(place[1]))


def _local_for(family: int, host: str, port: int) -> str:
    """Our address on the way to a peer: the kernel says, and nothing is sent."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((host, port or 9))
        return str(sock.getsockname()[0])
