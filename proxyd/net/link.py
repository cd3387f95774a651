"""
The link: carries the bytes of established sockets, outside Twisted's transports.

All L{End}s live in one epoll of the L{Link}'s own, which the reactor watches as
one more descriptor. An End is one socket. It *talks* (its bytes go to a
L{Subject}: start-up, login, idle in the pool), is *joined* to another End
(what one receives is sent by the other, in the same turn, with the message
borders watched by a L{Relayed} flow), or *lingers* (its last words are on
their way). One read of at most 256 KiB is under way at a time in each
direction: what can't be sent on at once is kept and the reading End pauses, so
a slow reader costs one chunk of memory, never more.

What a message means, who may be joined to whom, and every number of seconds is
decided elsewhere.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from proxyd.net.deadlines import Deadlines
from proxyd.net.secure import Secure

CHUNK = 256 * 1024
TALK_CHUNK = 64 * 1024
_EVENTS = 512
_ROUNDS = 8

_IN = select.EPOLLIN
_OUT = select.EPOLLOUT
_BROKEN = select.EPOLLERR | select.EPOLLHUP
_PAUSED = select.EPOLLRDHUP | select.EPOLLET

_NO_LINGER = b"\1\0\0\0\0\0\0\0"

# Why an End does not read: its subject wants it so, its peer has bytes waiting, or
# there are none any more.
_ASKED, _FULL, _ENDED = 1, 2, 4

_BUFFER = bytearray(CHUNK)
_VIEW = memoryview(_BUFFER)


class Subject(Protocol):
    """Whoever an End works for, as long as it is not closed."""

    def received(self, end: End, data: bytes) -> None:
        """Bytes came while the End talks."""

    def alerted(self, end: End) -> None:
        """The flow of two joined Ends asks for attention; what could be sent on was."""

    def finished(self, end: End) -> None:
        """The peer will send no more (FIN, or TLS close_notify); it may still read."""

    def gone(self, end: End, reason: str) -> None:
        """The socket is lost; the End is closed already."""


class Scans(Protocol):
    """What watches the message borders of one direction."""

    def scan(self, data: bytes | bytearray | memoryview, size: int) -> int:
        """How many of the bytes may be sent on."""


class Carrier(Protocol):
    """A non-blocking socket, or TLS on one."""

    def recv_into(self, buffer: bytearray, size: int = 0, /) -> int:
        """Take bytes; 0 when there will be no more."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Give bytes; how many were taken."""


class Relayed(Protocol):
    """What two joined Ends look at after each chunk."""

    alert: bool


class Owner(Protocol):
    """Whoever owns the lifetime of a socket that the link only borrows: Twisted's transport."""

    def loseConnection(self) -> object:
        """Close in order."""

    def abortConnection(self) -> object:
        """Close by a reset."""


@implementer(IReadDescriptor)
class Link:
    """
    All Ends of a process, in one epoll nested in the reactor's own.

    @ivar ends: how many Ends are open
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFDSet, clock: IReactorTime, linger: float) -> None:
        """
        @param reactor: watches the link's epoll
        @param clock: for the deadline of closing sockets, and for rates
        @param linger: how many seconds a peer may take to read last words
        """
        self._reactor = reactor
        self.clock = clock
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._ends: dict[int, End] = {}
        self._ended: list[Callable[[], object]] = []
        self._polling = False
        self._lingering: Deadlines[End] = Deadlines(clock, linger, End.abort)

    @property
    def ends(self) -> int:
        """How many Ends are open, lingering ones among them."""
        return len(self._handlers)

    def start(self) -> None:
        """Begin to carry bytes."""
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Close every End by a reset, and the link with them."""
        for end in list(self._ends.values()):
            end.abort()
        self._reactor.removeReader(self)
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
        """
        Serve the sockets that are ready, each once in a round.

        Some rounds at a time: a turn of the reactor costs more than one.
        """
        for _ in range(_ROUNDS):
            # A subject may have stopped the link in the round before.
            ready = [] if self._epoll.closed else self._poll(0, _EVENTS)
            if not ready:
                return
            self._serve(ready)

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        """Serve sockets that are ready."""
        handlers, ends = self._handlers, self._ends
        self._polling = True
        try:
            for fd, events in ready:
                handler = handlers.get(fd)
                if handler is not None:
                    end = ends[fd]
                    try:
                        handler(events)
                    except Exception:
                        self._bug(end)
        finally:
            self._polling = False
            if self._ended:
                self._close_ended()

    def _bug(self, end: End) -> None:
        """An exception nobody caught: it ends the one session it came from."""
        self._log.failure("a session failed; its connection is closed")
        subject = end.subject
        end.abort()
        if subject is not None:
            try:
                subject.gone(end, "internal error")
            except Exception:
                self._log.failure("a session could not be ended")

    def _add(self, fd: int, events: int, end: End) -> None:
        self._ends[fd] = end
        self._handlers[fd] = end._on_talk
        self._epoll.register(fd, events)

    def _remove(self, fd: int, close: Callable[[], object], borrowed: bool) -> None:
        """
        Forget a descriptor, and close it when no event of this turn can be
        waiting for it any more: a number used again must not get its events.

        @param borrowed: it may stay open for a while; the epoll forgets one of
            our own by itself as it is closed
        """
        del self._handlers[fd], self._ends[fd]
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


class End:
    """
    One socket of the link.

    @ivar received: bytes received from the peer, after TLS
    @ivar subject: whom the End works for; None once it is closed
    """

    __slots__ = (
        "__weakref__",
        "_broken",
        "_carrier",
        "_events",
        "_fd",
        "_flow",
        "_held",
        "_joined_at",
        "_last",
        "_link",
        "_out",
        "_owner",
        "_paused",
        "_peer",
        "_scan",
        "_secure",
        "_secured",
        "_sent",
        "_socket",
        "received",
        "subject",
    )

    def __init__(
        self,
        link: Link,
        sock: socket.socket,
        owner: Owner | None,
        subject: Subject,
        paused: bool = False,
    ) -> None:
        """
        Take a connected, non-blocking socket, which talks to C{subject} from now on.

        @param owner: closes the socket in the end; None: nobody else owns it
        @param paused: don't read before L{resume}
        """
        self._link = link
        self._socket = sock
        self._fd = sock.fileno()
        self._owner = owner
        self.subject: Subject | None = subject
        self._secure: Secure | None = None
        self._secured: Callable[[], None] | None = None
        self._carrier: Carrier = sock
        self._out = b""
        self._held = b""
        self._broken: OSError | None = None
        self._peer: End | None = None
        self._scan: Callable[..., int] | None = None
        self._flow: Relayed | None = None
        self._paused = _ASKED if paused else 0
        self._last = False
        self._sent = 0
        self._joined_at = 0
        self.received = 0
        self._events = _IN
        link._add(self._fd, self._events, self)

    # What the door offers

    @property
    def closed(self) -> bool:
        """Whether the End was closed or lost, or its last words are on their way."""
        return self.subject is None

    @property
    def sent(self) -> int:
        """Bytes sent to the peer, before TLS."""
        peer = self._peer
        relayed = 0 if peer is None else peer.received - peer._joined_at
        return self._sent + relayed - len(self._out)

    @property
    def pending(self) -> int:
        """How many bytes wait for the peer to read."""
        return len(self._out)

    @property
    def held(self) -> int:
        """How many bytes of an unfinished message header were received and not sent on."""
        return len(self._held)

    def take_held(self) -> bytes:
        """Take the unfinished message header, which is held no more."""
        held, self._held = self._held, b""
        return held

    @property
    def secure(self) -> Secure | None:
        """The TLS of this End, when it has one."""
        return self._secure

    @property
    def stirring(self) -> bool:
        """Whether the socket has bytes to read, or has ended: looked at now."""
        if self._fd < 0:
            return True
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def talk(self, subject: Subject) -> None:
        """Give what is received to C{subject} from now on; an end is told to it anew."""
        if subject is not self.subject:
            self._paused &= ~_ENDED
        self.subject = subject
        self._link._handlers[self._fd] = self._on_talk

    def tls(self, context: SSL.Context, server: str | None, secured: Callable[[], None]) -> None:
        """
        Begin TLS on the descriptor.

        @param server: the name of the server we are a client of; None: we are the server
        @param secured: called when the handshake is done; a handshake that
            fails is told to the subject as C{gone}
        """
        if server is None:
            self._secure = Secure.server(context, self._socket)
        else:
            self._secure = Secure.client(context, self._socket, server)
        self._secured = secured
        self._link._handlers[self._fd] = self._on_handshake
        self._on_handshake(0)

    def write(self, data: bytes) -> None:
        """Send a few bytes of our own, behind what waits already."""
        if self.subject is None:
            return
        self._sent += len(data)
        if self._out:
            self._out += data
            return
        sent = self._try_send(data)
        if sent < len(data) and self.subject is not None:
            self._out = bytes(data[sent:])
            self._watch()
            if self._peer is not None:
                self._peer._paused |= _FULL

    def pause(self) -> None:
        """
        Read nothing until L{resume}; a reset is still noticed.

        The epoll learns of it when there is something to read: mostly there is
        not, before the End is resumed.
        """
        self._paused |= _ASKED

    def resume(self) -> None:
        """Read again, as soon as what was read before could be sent on."""
        self._paused &= ~_ASKED
        self._watch()

    def carry(self, data: bytes) -> None:
        """Joined: send on, as if they had come just now, bytes that were received before."""
        assert self._peer is not None
        self._peer._sent += len(data)
        self._pass_on(memoryview(data), len(data))

    def part(self, subject: Subject) -> None:
        """End the join of this End: it talks to C{subject}, and is paused."""
        peer = self._peer
        self._separate()
        if self.subject is not None:
            self.talk(subject)
            self.pause()
        if peer is not None and peer._peer is self:
            peer.part(subject)

    def _separate(self) -> None:
        """Forget the peer, but not what was carried from it."""
        if self._peer is not None:
            self._sent += self._peer.received - self._peer._joined_at
            self._peer = None
            self._scan = self._flow = None
            self._paused &= ~_FULL

    def close(self, last_words: bytes = b"") -> None:
        """
        Close in order: what waits is sent first, then C{last_words}, then FIN.

        The peer's own last bytes are read and thrown away until it closes too,
        so that they don't turn our last words into a reset; a deadline ends it.
        """
        if self.subject is None:
            return
        if last_words:
            self.write(last_words)
        subject = self.subject
        if self.closed or subject is None:
            return
        self.part(subject)
        self.subject = None
        self._paused = 0
        self._link._handlers[self._fd] = self._on_linger
        self._link._lingering.add(self)
        if not self._out:
            self._finish()
        self._watch()

    def drop(self) -> None:
        """Close at once by FIN: the peer said goodbye, or we owe it nothing more."""
        if self._secure is not None and self._fd >= 0:
            self._secure.close()
        owner = self._owner
        self._end(self._socket.close if owner is None else owner.loseConnection)

    def abort(self) -> None:
        """Close at once, by a reset."""
        owner = self._owner
        self._end(self._reset if owner is None else owner.abortConnection)

    def _reset(self) -> None:
        """Close a socket of our own by a reset."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        except OSError:
            pass
        self._socket.close()

    # Events of the socket

    def _on_talk(self, events: int) -> None:
        """Events while talking."""
        if events & ~_IN and not self._flushed(events):
            return
        if self._paused:
            self._watch()
            return
        if not events & (_IN | _BROKEN):
            return
        try:
            count = self._carrier.recv_into(_BUFFER, TALK_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        subject = self.subject
        if subject is None:
            return
        if count:
            self.received += count
            subject.received(self, bytes(_VIEW[:count]))
        else:
            self._no_more()

    def _no_more(self) -> None:
        """The peer will send no more."""
        if self._broken is not None:
            self._lost(self._broken)
            return
        self._paused |= _ENDED
        if self.subject is not None:
            self.subject.finished(self)

    def _pass_on(self, data: memoryview, count: int) -> None:
        """Send to the peer what came from this End's socket, when there is more to it than that."""
        peer, scan = self._peer, self._scan
        assert peer is not None
        allowed = count
        if scan is not None:
            if self._held:
                held = self._held + data[:count]
                data, count = memoryview(held), len(held)
                self._held = b""
            allowed = scan(data, count)
            if allowed != count:
                self._held = bytes(data[allowed : min(count, allowed + 4)])
        try:
            sent = peer._carrier.send(data[:allowed]) if not peer._out and allowed else 0
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._paused |= _FULL
            peer._send_failed(error)
            return
        if sent != allowed:
            peer._out += bytes(data[sent:allowed])
            self._paused |= _FULL
            peer._watch()
        self._look_for_alert()

    def _look_for_alert(self) -> None:
        flow = self._flow
        if flow is not None and flow.alert and self.subject is not None:
            flow.alert = False
            self.subject.alerted(self)

    def _on_handshake(self, events: int) -> None:
        """Events during the TLS handshake."""
        secure = self._secure
        assert secure is not None
        try:
            wants = secure.handshake()
        except OSError as error:
            self._lost(error)
            return
        if wants:
            self._set_events(_OUT if wants == "write" else _IN)
            return
        self._carrier = secure
        secured, self._secured = self._secured, None
        self._link._handlers[self._fd] = self._on_talk
        self._watch()
        assert secured is not None
        secured()

    def _on_linger(self, events: int) -> None:
        """Events while the last words are on their way."""
        if self._out and not self._flush():
            return
        if not self._out and not self._last:
            self._finish()
            self._watch()
        try:
            if self._socket.recv_into(_BUFFER):
                return
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if self._out:
            # The peer sends no more but has not read all yet.
            self.pause()
        else:
            self.drop()

    # Sending and closing

    def _finish(self) -> None:
        """All is sent: say that no more will come."""
        self._last = True
        try:
            if self._secure is not None:
                self._secure.close()
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._paused = 0

    def _try_send(self, data: bytes | memoryview) -> int:
        """Send what the socket takes now; a lost socket is told to the subject."""
        try:
            sent = self._carrier.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lost(error)
            return 0
        return sent

    def _flush(self) -> bool:
        """Send what waits; whether the End is still there."""
        try:
            sent = self._carrier.send(self._out)
        except BlockingIOError:
            return True
        except OSError as error:
            self._send_failed(error)
            return self.subject is not None
        self._out = self._out[sent:]
        if not self._out:
            peer = self._peer
            if peer is not None:
                peer._paused &= ~_FULL
                peer._watch()
            self._watch()
        return True

    def _flushed(self, events: int) -> bool:
        """Serve what is not plain readability; whether reading may go on."""
        if self._out and not self._flush():
            return False
        if events & _BROKEN and self._paused:
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._lost(OSError(error, os.strerror(error)))
                return False
        return self.subject is not None

    def _send_failed(self, error: OSError) -> None:
        """Nothing can be sent any more; what the peer said last may still be read."""
        self._out = b""
        self._broken = error
        if self._paused or self.subject is None:
            self._lost(error)
        else:
            self._watch()

    def _lost(self, error: OSError) -> None:
        """The socket broke."""
        subject = self.subject
        self.abort()
        if subject is not None:
            subject.gone(self, error.strerror or str(error))

    def _end(self, close: Callable[[], object]) -> None:
        if self._fd < 0:
            return
        peer = self._peer
        self._separate()
        self.subject = None
        self._out = b""
        if peer is not None and peer._peer is self:
            peer._separate()
            if peer.subject is not None:
                peer.talk(peer.subject)
                peer.pause()
        fd, self._fd = self._fd, -1
        self._link._lingering.discard(self)
        self._link._remove(fd, close, self._owner is not None)

    def _watch(self) -> None:
        """Tell the epoll what is waited for now."""
        if self._out:
            self._set_events(_OUT if self._paused else _IN | _OUT)
        else:
            self._set_events(_PAUSED if self._paused else _IN)

    def _set_events(self, events: int) -> None:
        if events != self._events and self._fd >= 0:
            self._events = events
            self._link._epoll.modify(self._fd, events)


def join(
    one: End, other: End, subject: Subject, flow: Relayed | None, scans: tuple[Scans, Scans] | None
) -> None:
    """
    Join two Ends: what one receives, the other sends.

    @param subject: told of alerts, ends and losses of both
    @param flow: looked at for an alert after each chunk
    @param scans: watch what C{one} sends, and what C{other} sends
    """
    for end, peer, number in ((one, other, 0), (other, one, 1)):
        end._peer = peer
        end._joined_at = end.received
        end._held = b""
        end.subject = subject
        end._flow = flow
        end._scan = scans[number].scan if scans else None
    for end, peer in ((one, other), (other, one)):
        end._link._handlers[end._fd] = _relay(end, peer)
        # A peer with bytes still waiting resumes its partner when they are sent.
        end._paused = _FULL if peer._out else 0
        end._watch()


def _relay(end: End, peer: End) -> Callable[[int], None]:
    """
    What is done with the events of a joined End: the way of nearly all bytes.

    A closure, since it is run for each of them: what doesn't change while the
    two are joined is looked up once.
    """
    receive, send = end._carrier.recv_into, peer._carrier.send
    scan = end._scan or _pass
    flow = end._flow or _NOTHING_TO_SEE
    view, buffer, readable = _VIEW, _BUFFER, _IN

    def carry(events: int) -> None:
        if events != readable and not end._flushed(events):
            return
        if end._paused:
            end._watch()
            return
        try:
            count = receive(buffer)
        except BlockingIOError:
            return
        except OSError as error:
            end._lost(error)
            return
        if not count:
            end._no_more()
            return
        end.received += count
        if end._held:
            end._pass_on(view, count)
            return
        allowed = scan(view, count)
        if allowed != count:
            end._held = bytes(view[allowed : min(count, allowed + 4)])
        try:
            sent = send(view[:allowed]) if allowed else 0
        except BlockingIOError:
            sent = 0
        except OSError as error:
            end._paused |= _FULL
            peer._send_failed(error)
            return
        if sent != allowed:
            peer._out = bytes(view[sent:allowed])
            end._paused |= _FULL
            peer._watch()
        if flow.alert:
            end._look_for_alert()

    return carry


def _pass(data: object, size: int) -> int:
    """The scan of a join without borders to watch."""
    return size


class _Quiet:
    """The flow of a join that nobody watches."""

    __slots__ = ()
    alert = False


_NOTHING_TO_SEE: Relayed = _Quiet()
