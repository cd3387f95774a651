"""
A network in memory: sockets and an epoll that the link can't tell from real ones.

Nothing moves by itself: bytes that were sent are on their way until whoever
owns the network lets some of them arrive, in pieces of any size. So a schedule
is what a seed makes of it, and can be had again.
"""

from __future__ import annotations

import errno
import random
import select
import socket
from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from proxyd.interfaces import ISocketEndpoint
from proxyd.net.link import Link
from proxyd.target import Principal, Target

ADDRESS = ("127.0.0.1", 5432)
_HARD = select.EPOLLERR | select.EPOLLHUP


class Wire:
    """
    A connected, non-blocking socket; L{peer} is the other end.

    @ivar coming: bytes on their way here
    @ivar here: bytes that arrived and were not read
    """

    def __init__(self, network: Network, capacity: int) -> None:
        """@param capacity: bytes that fit between the two, in this direction"""
        self.network = network
        self.capacity = capacity
        self.number = network.join(self)
        self.coming = bytearray()
        self.here = bytearray()
        self.fin_coming = self.fin_here = False
        self.broken = self.closed = self.finished = self.fresh = False
        self._error = 0
        self._hard_close = False
        self.peer: Wire

    # -- what the network does

    @property
    def moving(self) -> bool:
        """Whether something is on its way here."""
        return not self.closed and bool(self.coming or (self.fin_coming and not self.fin_here))

    def arrive(self, count: int) -> None:
        """Let so many bytes arrive; with none left, the FIN."""
        self.fresh = True
        if self.coming:
            self.here += self.coming[:count]
            del self.coming[:count]
        else:
            self.fin_here = True

    def events(self) -> int:
        """What an epoll would say of it now."""
        found = 0
        if self.here or self.fin_here or self.broken:
            found |= select.EPOLLIN
        if self.fin_here or self.broken:
            found |= select.EPOLLRDHUP
        if self.room > 0 or self.broken:
            found |= select.EPOLLOUT
        if self.broken:
            found |= _HARD if self._error else select.EPOLLHUP
        elif self.fin_here and self.finished:
            found |= select.EPOLLHUP
        return found

    @property
    def room(self) -> int:
        """How many bytes may be sent."""
        peer = self.peer
        return peer.capacity - len(peer.coming) - len(peer.here)

    def reset_by_peer(self) -> None:
        """The other end broke the connection."""
        if not self.closed:
            self.broken = self.fresh = True
            self._error = errno.ECONNRESET
            self.coming.clear()
            self.peer.coming.clear()

    # -- what a socket offers

    def fileno(self) -> int:
        """Its number."""
        return -1 if self.closed else self.number

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As recv(2); with MSG_PEEK the bytes stay."""
        data = bytes(self.here[:size])
        if not data:
            self._nothing_here()
        elif not flags & socket.MSG_PEEK:
            del self.here[: len(data)]
        return data

    def recv_into(self, buffer: bytearray, size: int = 0) -> int:
        """As recv(2)."""
        data = self.recv(size or len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _nothing_here(self) -> None:
        self._tell_reset()
        if not self.fin_here and not self.broken:
            raise BlockingIOError

    def _tell_reset(self) -> None:
        """A reset is told once, by whatever is asked first; then it is an end like another."""
        if self._error:
            self._error = 0
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    def send(self, data: bytes | memoryview) -> int:
        """As send(2)."""
        self._tell_reset()
        if self.broken:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        if self.finished:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        if self.peer.closed:
            # The other end is gone: it answers by a reset.
            self.reset_by_peer()
            return len(data)
        taken = data[: max(0, self.room)]
        if not taken:
            raise BlockingIOError
        self.peer.coming += taken
        return len(taken)

    def shutdown(self, how: int) -> None:
        """Send no more."""
        if self.broken:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        self.finished = self.peer.fin_coming = True

    def setsockopt(self, level: int, option: int, value: object) -> None:
        """SO_LINGER makes the close a reset."""
        self._hard_close = self._hard_close or option == socket.SO_LINGER

    def getsockopt(self, level: int, option: int) -> int:
        """SO_ERROR, which is told once."""
        error, self._error = self._error, 0
        return error

    def close(self) -> None:
        """As close(2): a reset where bytes were not read, else FIN."""
        if self.closed:
            return
        self.network.part(self)
        self.closed = True
        if self._hard_close or self.here or self.coming:
            self.peer.reset_by_peer()
        else:
            self.finished = self.peer.fin_coming = True

    def reset(self) -> None:
        """Close by a reset."""
        self._hard_close = True
        self.close()

    def getsockname(self) -> tuple[str, int]:
        """Where it is."""
        return ADDRESS

    getpeername = getsockname


class Network:
    """All sockets of a simulation, and the epoll of its link."""

    closed = False

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.wires: dict[int, Wire] = {}
        self._watched: dict[int, int] = {}
        self._numbers = 0

    def pair(self) -> tuple[Wire, Wire]:
        """Two ends of a connection."""
        capacity = self.chance.choice((24, 200, 4096, 1 << 16))
        one, other = Wire(self, capacity), Wire(self, capacity)
        one.peer, other.peer = other, one
        return one, other

    def join(self, wire: Wire) -> int:
        """Take a socket in; its number."""
        self._numbers += 1
        self.wires[self._numbers] = wire
        return self._numbers

    def part(self, wire: Wire) -> None:
        """A socket is closed: the epoll forgets it, too."""
        del self.wires[wire.number]
        self._watched.pop(wire.number, None)

    def moving(self) -> Iterator[Wire]:
        """The sockets to which something is on its way."""
        return (wire for wire in self.wires.values() if wire.moving)

    # -- as select.epoll

    def fileno(self) -> int:
        """It is nobody's descriptor."""
        return -1

    def register(self, number: int, events: int) -> None:
        """Watch a socket."""
        self._watched[number] = events
        self.wires[number].fresh = True

    modify = register

    def unregister(self, number: int) -> None:
        """Watch it no more."""
        self._watched.pop(number, None)

    def poll(self, seconds: float, most: int) -> list[tuple[int, int]]:
        """The sockets that have something to say, in any order."""
        found = []
        for number, wanted in self._watched.items():
            wire = self.wires[number]
            events = wire.events() & (wanted | _HARD)
            if wanted & select.EPOLLET and not wire.fresh:
                events = 0
            wire.fresh = False
            if events:
                found.append((number, events))
        self.chance.shuffle(found)
        return found

    def close(self) -> None:
        """The link is stopped."""
        self.closed = True


class _NoReactor:
    """The link's reactor: whoever owns the simulation lets it poll."""

    def addReader(self, reader: object) -> None:
        """Nothing is watched."""

    removeReader = addReader


class MemoryLink(Link):
    """The link on a network in memory."""

    def __init__(self, network: Network, clock: Clock, linger: float) -> None:
        super().__init__(_NoReactor(), clock, linger)
        self._epoll.close()
        self._epoll = network
        self._poll = network.poll


@implementer(ISocketEndpoint)
class _MemoryEndpoint:
    """The way to a server in memory."""

    def __init__(self, network: Network, accept: Callable[[Wire], None]) -> None:
        self._network = network
        self._accept = accept

    def connect_socket(self, link: Link) -> Deferred[Wire]:
        """Connect, at once."""
        ours, theirs = self._network.pair()
        self._accept(theirs)
        return succeed(ours)


class MemoryDialer:
    """An IDialer whose every way ends at C{accept}."""

    def __init__(self, network: Network, accept: Callable[[Wire], None]) -> None:
        self._network = network
        self._accept = accept

    def endpoint_for(self, target: Target, principal: Principal) -> _MemoryEndpoint:
        """The way there."""
        return _MemoryEndpoint(self._network, self._accept)
