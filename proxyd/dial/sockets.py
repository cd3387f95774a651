"""
Connecting without a transport: a socket that goes to the link as it is.

Half as dear as an endpoint of Twisted's, which is most of what a short
connection through us costs.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from proxyd.dial.failures import summed_up, translated
from proxyd.errors import DialError
from proxyd.net.link import Link
from proxyd.net.listening import set_options
from proxyd.net.resolver import Address
from proxyd.target import Target


class SocketRace:
    """
    Attempts at several addresses, of which the first to connect wins.

    There is no deadline in here: callers C{addTimeout}.
    """

    def __init__(self, link: Link, addresses: Sequence[Address], stagger: float) -> None:
        """@param stagger: seconds between the starts of two attempts"""
        self._link = link
        self._addresses = list(addresses)
        self._stagger = stagger
        self._trying: dict[socket.socket, Address] = {}
        self._problems: list[DialError] = []
        self._next: IDelayedCall | None = None
        self._outcome: Deferred[socket.socket] = Deferred(lambda _: self._end())

    def run(self) -> Deferred[socket.socket]:
        """Begin. Fails with DialError when all have failed; cancelling ends all."""
        self._try_next()
        return self._outcome

    def _try_next(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        if not self._addresses:
            if not self._trying:
                self._outcome.errback(summed_up(self._problems))
            return
        address = self._addresses.pop(0)
        if self._addresses:
            self._next = self._link.clock.callLater(self._stagger, self._try_next)
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._lost(error, address)
            return
        set_options(sock)
        host, _, zone = address.host.partition("%")
        place = (host, address.port, 0, _zone(zone)) if zone else (host, address.port)
        number = sock.connect_ex(place)
        if number not in (0, errno.EINPROGRESS):
            sock.close()
            self._lost(OSError(number, ""), address)
            return
        self._trying[sock] = address
        self._link.await_connected(sock, self._connected)

    def _connected(self, sock: socket.socket) -> None:
        """The kernel has an answer."""
        address = self._trying.pop(sock)
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            sock.close()
            self._lost(OSError(number, ""), address)
            return
        self._end()
        self._outcome.callback(sock)

    def _lost(self, error: OSError, address: Address) -> None:
        self._problems.append(translated(error, str(Target(address.host, address.port))))
        self._try_next()

    def _end(self) -> None:
        """Give up whatever still runs."""
        self._addresses.clear()
        if self._next is not None and self._next.active():
            self._next.cancel()
        running, self._trying = self._trying, {}
        for sock in running:
            self._link.await_no_more(sock)
            sock.close()


def _zone(text: str) -> int:
    """The number of an interface, by its number or its name; 0: there is none of that name."""
    try:
        return int(text) if text.isdigit() else socket.if_nametoindex(text)
    except OSError:
        return 0
