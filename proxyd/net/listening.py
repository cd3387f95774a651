"""
Accepting: the listening sockets, and the sockets that come in by them.

Twisted opens a port from any of its endpoints and closes it in the end; the
accepting itself is done here, because a socket that goes to the link needs no
transport: it costs less memory and time without one.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.config.model import Listener
from proxyd.errors import StartError

BACKLOG = 4096
_FULL = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_PAUSE = 0.25

Accepted = Callable[[socket.socket, object], None]
"""
C{(socket, address)}: a non-blocking socket, and what C{accept} said of its peer.

It is a C{socket.SocketType}, which has all but C{accept}, C{dup}, C{makefile} and C{with}.
"""


def set_options(sock: socket.socket) -> None:
    """
    What every TCP socket of ours is: undelayed, and kept alive.

    A silent dead peer is noticed after about two minutes. TCP_USER_TIMEOUT is
    left alone: Linux counts a closed window against it, so it would cut a peer
    that only reads slowly, such as a COPY that waits for a lock. Set on a
    listening socket, Linux hands these options on to what it accepts.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


class Watch(Protocol):
    """Whoever watches descriptors: the reactor, or the link."""

    def addReader(self, reader: IReadDescriptor, /) -> object:
        """Call C{doRead} when there is something to read."""

    def removeReader(self, reader: IReadDescriptor, /) -> object:
        """Do so no more."""


@implementer(IReadDescriptor)
class Acceptor:
    """One listening socket; each socket that comes in by it goes to C{accepted}."""

    _log = Logger()

    def __init__(
        self,
        watch: Watch,
        clock: IReactorTime,
        port: IListeningPort,
        accepted: Accepted,
        again: Callable[[object], IListeningPort] | None = None,
    ) -> None:
        """
        @param watch: calls L{doRead} when somebody comes
        @param port: an open port of Twisted's, which stops accepting by itself
        @param again: opens the port anew, at the address that it had; for L{reopen}
        """
        self._fd_set = watch
        self._clock = clock
        self._accepted = accepted
        self._opened_again = again
        self._waiting: IDelayedCall | None = None
        self._spare = -1
        self._stopped = False
        self._take(port)

    def _take(self, port: IListeningPort) -> None:
        """Accept at an open port."""
        self._port = port
        port.stopReading()  # type: ignore[attr-defined]
        self._socket = socket.socket(fileno=os.dup(port.fileno()))  # type: ignore[attr-defined]
        self._socket.setblocking(False)
        self._kind = int(self._socket.family), int(self._socket.type), self._socket.proto
        set_options(self._socket)
        self._address = self._socket.getsockname()
        self._take_spare()
        self._fd_set.addReader(self)

    @property
    def address(self) -> object:
        """Where it listens: what C{getsockname} says."""
        return self._address

    @property
    def is_open(self) -> bool:
        """Whether it listens: not after a L{reopen} that failed."""
        return self._socket.fileno() >= 0

    def fileno(self) -> int:
        """The listening descriptor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """The name that the reactor's log uses."""
        return "listener"

    def connectionLost(self, reason: object) -> None:
        """The reactor lets go of the descriptor: nothing to do."""

    def doRead(self) -> None:
        """
        Accept one client.

        If more wait, this is called again in the next round: those that are in
        have their turn first, and nobody asks in vain whether there is another.
        """
        try:
            # As socket.accept does, but for looking up the names of numbers.
            fd, address = self._socket._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _FULL:
                self._full(error)
            return
        # The type in C that socket.socket is built upon: made and closed in half the time.
        sock: socket.socket = socket.SocketType(*self._kind, fd)  # type: ignore[assignment]
        sock.setblocking(False)
        try:
            self._accepted(sock, address)
        except Exception:
            self._log.failure("a new connection failed; it is closed")
            sock.close()

    async def reopen(self) -> None:
        """
        Close the port and open it anew at the same address, in as little time as can be.

        @raise StartError: it can't be opened; it may be tried again
        """
        assert self._opened_again is not None
        if self.is_open:
            # Whoever waits to be accepted would be reset.
            self.doRead()
            await self._close()
        if not self._stopped:
            self._take(self._opened_again(self._address))

    def stop(self) -> Deferred[None]:
        """Close the port; no more sockets come in."""
        self._stopped = True
        return self._close()

    def _close(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        if not self.is_open:
            done.callback(None)
            return done
        self._fd_set.removeReader(self)
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._socket.close()
        self._give_up_spare()
        closing = self._port.stopListening()
        if closing is None:
            done.callback(None)
        else:
            closing.addCallbacks(lambda _: done.callback(None), done.errback)
        return done

    def _full(self, error: OSError) -> None:
        """
        No descriptor is left: turn the next client away with the spare one, so
        that it learns of it, and wait a moment.
        """
        self._log.error(
            "no connection can be accepted: {reason}; raise LimitNOFILE or lower max_clients",
            reason=error.strerror,
        )
        self._give_up_spare()
        try:
            self._socket.accept()[0].close()
        except OSError:
            self._log.debug("nobody was left to turn away")
        self._take_spare()
        self._fd_set.removeReader(self)
        self._waiting = self._clock.callLater(_PAUSE, self._again)

    def _take_spare(self) -> None:
        """Keep a descriptor back; a thread may have been faster, then later."""
        if self._spare < 0:
            try:
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._log.debug("no descriptor is left to keep back")

    def _give_up_spare(self) -> None:
        spare, self._spare = self._spare, -1
        if spare >= 0:
            os.close(spare)

    def _again(self) -> None:
        self._waiting = None
        self._take_spare()
        self._fd_set.addReader(self)


def _endpoint(reactor: object, listener: Listener) -> IStreamServerEndpoint:
    """The Twisted endpoint of one listener of the configuration."""
    if listener.kind == "unix":
        return UNIXServerEndpoint(reactor, listener.path, backlog=BACKLOG, wantPID=True)  # type: ignore[no-untyped-call]
    if listener.kind == "tcp":
        kind = TCP6ServerEndpoint if ":" in listener.host else TCP4ServerEndpoint
        return kind(reactor, listener.port, backlog=BACKLOG, interface=listener.host)
    if listener.kind == "systemd":
        text = f"systemd:domain=INET:name={listener.name}"
    else:
        text = listener.text
    if text.startswith(("ssl:", "tls:", "haproxy:")):
        raise StartError(
            f"{text.split(':')[0]}: endpoints can't be used for {listener.text}: "
            "proxyd speaks TLS and PROXY itself, see postgres.tls and postgres.proxy_protocol"
        )
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, text)  # type: ignore[no-untyped-call]
        return endpoint
    except (ValueError, TypeError, KeyError) as error:
        raise StartError(f"can't listen at {listener.text}: {error}") from None


def open_listener(
    reactor: Any, listener: Listener, accepted: Accepted, watch: Watch | None = None
) -> Acceptor:
    """
    Open one listener of the configuration, at once, to accept by ourselves.

    @param watch: watches it; None: the reactor
    @raise StartError: it can't be opened; the line names it and the reason
    """

    def again(address: object) -> IListeningPort:
        place = listener
        if place.kind == "tcp" and place.port == 0 and isinstance(address, tuple):
            # Any free port was asked for: whoever has been told of it must find it again.
            place = replace(place, port=address[1])
        return open_port(reactor, place, Factory())

    port = open_port(reactor, listener, Factory())
    return Acceptor(watch or reactor, reactor, port, accepted, again)


def open_port(reactor: Any, listener: Listener, factory: IProtocolFactory) -> IListeningPort:
    """
    Open one listener of the configuration, at once.

    @param factory: makes a protocol for each client
    @raise StartError: it can't be opened; the line names it and the reason
    """
    try:
        listening = _endpoint(reactor, listener).listen(factory)
    except OSError as error:
        raise StartError(f"can't listen at {listener.text}: {error.strerror}") from None
    outcome: list[object] = []
    listening.addBoth(outcome.append)
    if not outcome:
        raise StartError(f"can't listen at {listener.text}: this endpoint does not open at once")
    port = outcome[0]
    if IListeningPort.providedBy(port):
        # What Twisted accepts is as ours: a peer that is gone without a word is noticed.
        own = getattr(port, "socket", None)
        if isinstance(own, socket.socket):
            set_options(own)
        return port
    why = port.value if isinstance(port, Failure) else port
    cause = why.socketError if isinstance(why, CannotListenError) else why
    reason = (isinstance(cause, OSError) and cause.strerror) or str(cause)
    raise StartError(f"can't listen at {listener.text}: {reason}")


def spoken_address(address: object) -> str:
    """What C{getsockname} or C{accept} says of an address, as C{HOST:PORT} or C{unix:PATH}."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(address, bytes):
        address = address.decode("utf-8", "backslashreplace")
    return f"unix:{address}"
