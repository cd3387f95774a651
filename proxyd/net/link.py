"""
The link: carries the bytes of established sockets, outside Twisted's transports.

All L{End<proxyd.net.end.End>}s live in one epoll of the L{Link}'s own. Twisted's
epoll reactor waits by it; any other watches it as one more descriptor. What a
message means, who may be joined to whom, and every number of seconds is decided
elsewhere.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from proxyd.net.deadlines import Deadlines
from proxyd.net.kept import Kept
from proxyd.net.line import IN, OUT, Line
from proxyd.net.turns import Turns, can_be_led

if TYPE_CHECKING:
    from proxyd.net.end import End

_EVENTS = 64
"""Sockets of a round, so that what is sent at its end waits for no more than these."""

_ROUNDS = 8


class _Reader:
    """A descriptor in the epoll that is no End."""

    __slots__ = ("_reader",)

    def __init__(self, reader: IReadDescriptor) -> None:
        self._reader = reader

    def _handler(self, events: int) -> None:
        self._reader.doRead()

    def abort(self) -> None:
        """Whoever opened it closes it."""


class _Dialled(_Reader):
    """A socket that is being connected."""

    __slots__ = ("_connected", "_link", "_socket")

    def __init__(
        self, link: Link, sock: socket.socket, connected: Callable[[socket.socket], None]
    ) -> None:
        self._link = link
        self._socket = sock
        self._connected = connected

    def _handler(self, events: int) -> None:
        self._link.await_no_more(self._socket)
        self._connected(self._socket)


class _Theirs(_Reader):
    """The reactor's own epoll."""

    __slots__ = ("ready",)

    def __init__(self) -> None:
        self.ready = False

    def _handler(self, events: int) -> None:
        self.ready = True


@implementer(IReadDescriptor)
class Link:
    """
    All Ends of a process, in one epoll.

    @ivar ends: how many Ends are open
    @ivar kept: who is sent something at the end of a round
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFDSet, clock: IReactorTime, linger: float) -> None:
        """
        @param reactor: waits by the link's epoll, or watches it
        @param clock: for the deadline of closing sockets, and for rates
        @param linger: how many seconds a peer may take to read last words
        """
        self._reactor = reactor
        self.clock = clock
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._members: dict[int, End | _Reader] = {}
        self._readers = 0
        self._ended: list[Callable[[], object]] = []
        self._polling = False
        self.kept = Kept()
        self._turns: Turns | None = None
        self._theirs = _Theirs()
        self._busy = False
        self._lingering: Deadlines[Line] = Deadlines(clock, linger, lambda line: line.abort())

    @property
    def ends(self) -> int:
        """How many Ends are open, lingering ones among them."""
        return len(self._members) - self._readers

    def start(self) -> None:
        """Begin to carry bytes."""
        if can_be_led(self._reactor):
            self._turns = Turns(self._reactor, self._turn)
            self._members[self._turns.fd] = self._theirs
            self._readers += 1
            self._epoll.register(self._turns.fd, IN)
        else:
            self._reactor.addReader(self)

    def stop(self) -> None:
        """Close every End by a reset, and the link with them."""
        for member in list(self._members.values()):
            member.abort()
        if self._turns is None:
            self._reactor.removeReader(self)
        else:
            self._turns.leave()
            self._turns = None
        self._lingering.stop()
        self._epoll.close()

    def fileno(self) -> int:
        """The epoll's own descriptor, which the reactor watches."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def logPrefix(self) -> str:
        """The name that the reactor's log uses."""
        return "link"

    def connectionLost(self, reason: object) -> None:
        """The reactor lets go of the descriptor: nothing to do."""

    def doRead(self) -> None:
        """Serve the sockets that are ready: a reactor says that there are some."""
        self._rounds(0)

    def _turn(self, timeout: float) -> None:
        """
        Wait for sockets and serve them; a turn of the reactor that waits by us.

        @param timeout: for at most so many seconds; -1 for any number
        """
        self._rounds(timeout)
        if self._theirs.ready:
            self._theirs.ready = False
            if self._turns is not None:
                self._turns.serve()

    def _rounds(self, timeout: float) -> None:
        """
        Serve the sockets that are ready, each once in a round.

        Some rounds at a time: a turn of the reactor costs more than one.

        Who had few bytes for several in a round will so again. It lets other programs
        run first, its clients and servers among them, so that what they are about
        to send is served in one round and not, by a wake-up each, in several.
        Where nobody else is to run, that costs a system call.

        @param timeout: wait so many seconds for the first
        """
        for _ in range(_ROUNDS):
            if self._busy:
                os.sched_yield()
            # A subject may have stopped the link in the round before.
            ready = [] if self._epoll.closed else self._poll(timeout, _EVENTS)
            self._serve(ready)
            self._busy = self.kept.send() > 1
            timeout = 0
            if not ready or self._theirs.ready:
                break

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        """Serve sockets that are ready."""
        members = self._members
        self._polling = True
        try:
            for fd, events in ready:
                member = members.get(fd)
                if member is not None:
                    try:
                        handler = member._handler
                        handler(events)
                    except Exception:
                        self._bug(member)
        finally:
            self._polling = False
            if self._ended:
                self._close_ended()

    def serve(self, end: End, work: Callable[[], object]) -> None:
        """Do an End's work now, as if its turn had come: an exception ends it, and nothing else."""
        try:
            work()
        except Exception:
            self._bug(end)

    def addReader(self, reader: IReadDescriptor) -> None:
        """
        Watch a descriptor that is no End, as the reactor would: a listening socket.

        What it accepts is served in the same turn.
        """
        fd = reader.fileno()
        self._members[fd] = _Reader(reader)
        self._readers += 1
        self._epoll.register(fd, IN)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """Watch it no more; it is still open."""
        fd = reader.fileno()
        if isinstance(self._members.get(fd), _Reader):
            del self._members[fd]
            self._readers -= 1
            if not self._epoll.closed:
                self._epoll.unregister(fd)

    def await_connected(
        self, sock: socket.socket, connected: Callable[[socket.socket], None]
    ) -> None:
        """
        Say when a socket that connects has done so, or has failed to; once.

        It is then no business of the link's any more.
        """
        self._members[sock.fileno()] = _Dialled(self, sock, connected)
        self._readers += 1
        self._epoll.register(sock.fileno(), OUT)

    def await_no_more(self, sock: socket.socket) -> None:
        """Forget a socket that connects; it is still open."""
        fd = sock.fileno()
        if isinstance(self._members.get(fd), _Dialled):
            del self._members[fd]
            self._readers -= 1
            if not self._epoll.closed:
                self._epoll.unregister(fd)

    def _bug(self, end: End | _Reader) -> None:
        """An exception nobody caught: it ends the one session it came from, if it still lives."""
        self._log.failure("a session failed; its connection is closed")
        if isinstance(end, _Reader):
            return
        subject = end.subject
        end.abort()
        if subject is not None:
            try:
                subject.gone(end, "internal error")
            except Exception:
                self._log.failure("a session could not be ended")

    def _add(self, fd: int, events: int, end: End) -> None:
        self._members[fd] = end
        self._epoll.register(fd, events)

    def _remove(self, fd: int, close: Callable[[], object], borrowed: bool) -> None:
        """
        Forget a descriptor, and close it when no event of this turn can be
        waiting for it any more: a number used again must not get its events.

        @param borrowed: it may stay open for a while; the epoll forgets one of
            our own by itself as it is closed
        """
        del self._members[fd]
        if borrowed:
            try:
                self._epoll.unregister(fd)
            except OSError:
                self._log.debug("descriptor {fd} had left the poll already", fd=fd)
        self._ended.append(close)
        if not self._polling:
            self._close_ended()

    def _close_ended(self) -> None:
        ended, self._ended = self._ended, []
        for close in ended:
            try:
                close()
            except Exception:
                self._log.failure("a socket could not be closed in order")
