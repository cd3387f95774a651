"""
Connecting without a transport: a socket that goes to the link as it is.

Half as dear as an endpoint of Twisted's, which is most of what a short
connection through us costs.
"""

from __future__ import annotations

import errno
import socket

from twisted.internet.defer import Deferred, fail

from proxyd.net.link import Link
from proxyd.net.listening import set_options
from proxyd.net.resolver import Address


def connect(link: Link, address: Address) -> Deferred[socket.socket]:
    """
    Connect a socket.

    There is no deadline in here. Cancelled, it leaves nothing behind.

    @return: fires with a non-blocking socket that has our options, and that
        the link has forgotten; fails with C{OSError}
    """
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        return fail(error)
    set_options(sock)
    host, _, zone = address.host.partition("%")
    place = (host, address.port, 0, _zone(zone)) if zone else (host, address.port)
    number = sock.connect_ex(place)
    if number not in (0, errno.EINPROGRESS):
        sock.close()
        return fail(OSError(number, ""))

    def give_up(_: object) -> None:
        link.await_no_more(sock)
        sock.close()

    connecting: Deferred[socket.socket] = Deferred(give_up)
    link.await_connected(sock, lambda sock: _answered(sock, connecting))
    return connecting


def _answered(sock: socket.socket, connecting: Deferred[socket.socket]) -> None:
    """The kernel has an answer."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        sock.close()
        connecting.errback(OSError(number, ""))
    else:
        connecting.callback(sock)


def _zone(text: str) -> int:
    """The number of an interface, by its number or its name; 0: there is none of that name."""
    try:
        return int(text) if text.isdigit() else socket.if_nametoindex(text)
    except OSError:
        return 0
