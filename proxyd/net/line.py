"""
One socket of the link: what waits to be sent on it, when it is read, and how it is closed.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxyd.net.secure import Secure
from proxyd.net.subject import Carrier, Owner, Subject

if TYPE_CHECKING:
    from proxyd.net.link import Link

CHUNK = 256 * 1024
"""Bytes of one read while joined: also the most that waits for a slow reader."""

TALK_CHUNK = 64 * 1024
"""Bytes of one read while talking."""

IN = select.EPOLLIN
OUT = select.EPOLLOUT
BROKEN = select.EPOLLERR | select.EPOLLHUP
PAUSED = select.EPOLLRDHUP | select.EPOLLET

# Why a socket is not read: its subject wants it so, its peer has bytes waiting,
# there are none any more, or it went faster than it may.
ASKED, FULL, ENDED, FAST = 1, 2, 4, 8

BUFFER = bytearray(CHUNK)
VIEW = memoryview(BUFFER)

_LOOK = select.poll()

_NO_LINGER = b"\1\0\0\0\0\0\0\0"


def _nothing(events: int) -> None:
    """The handler of a socket that is closed."""


class Line:
    """
    A connected, non-blocking socket in the link's epoll.

    @ivar subject: whom it works for; None once it is closed
    """

    __slots__ = (
        "__weakref__",
        "_broken",
        "_carrier",
        "_ending",
        "_events",
        "_fd",
        "_handler",
        "_last",
        "_link",
        "_out",
        "_owner",
        "_paused",
        "_secure",
        "_socket",
        "subject",
    )

    def __init__(
        self, link: Link, sock: socket.socket, owner: Owner | None, subject: Subject, paused: bool
    ) -> None:
        """
        @param owner: closes the socket in the end; None: nobody else owns it
        @param paused: don't read before L{resume}
        """
        self._link = link
        self._socket = sock
        self._fd = sock.fileno()
        self._owner = owner
        self.subject: Subject | None = subject
        self._secure: Secure | None = None
        self._carrier: Carrier = sock
        self._out = b""
        self._broken: OSError | None = None
        self._paused = ASKED if paused else 0
        self._last = False
        self._ending: Callable[[], None] | None = None
        self._events = IN
        self._handler: Callable[[int], None]

    @property
    def closed(self) -> bool:
        """Whether the End was closed or lost, or its last words are on their way."""
        return self.subject is None

    @property
    def pending(self) -> int:
        """How many bytes wait for the peer to read, or for the end of the round."""
        return len(self._out)

    @property
    def local_address(self) -> tuple[str, int]:
        """Where the peer has reached us: host and port; empty and 0 by a UNIX socket."""
        try:
            name = self._socket.getsockname()
        except OSError:
            name = ""
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("", 0)

    @property
    def secure(self) -> Secure | None:
        """The TLS of this End, when it has one."""
        return self._secure

    @property
    def stirring(self) -> bool:
        """Whether the socket has bytes to read, or has ended: looked at now."""
        if self._fd < 0:
            return True
        # Not by recv(2) with MSG_PEEK: mostly there is nothing, and an exception costs more.
        _LOOK.register(self._fd, select.POLLIN)
        try:
            return bool(_LOOK.poll(0))
        finally:
            _LOOK.unregister(self._fd)

    def pause(self) -> None:
        """
        Read nothing until L{resume}; a reset is still noticed.

        The epoll learns of it when there is something to read: mostly there is
        not, before the End is resumed.
        """
        self._paused |= ASKED

    def resume(self) -> None:
        """Read again, as soon as what was read before could be sent on."""
        paused = self._paused = self._paused & ~ASKED
        if paused or self._out or self._events != IN:
            self._watch()

    def drop(self) -> None:
        """Close at once by FIN: the peer said goodbye, or we owe it nothing; what waits is lost."""
        if self._secure is not None and self._fd >= 0:
            self._secure.close()
        owner = self._owner
        self._end(self._socket.close if owner is None else owner.loseConnection)

    def abort(self) -> None:
        """Close at once, by a reset."""
        owner = self._owner
        self._end(self._reset if owner is None else owner.abortConnection)

    def finish(self, done: Callable[[], None]) -> None:
        """
        Send what waits, then FIN; what the peer sends is still read.

        TLS can't end one direction alone: there nothing is sent but what
        waits, and whoever is told closes the whole.

        @param done: called once, when that has been done; not after the End is closed
        """
        self._ending = done
        if not self._out and self._fd >= 0:
            self._end_sending()

    def _end_sending(self) -> None:
        done, self._ending = self._ending, None
        if self._secure is None:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._lost(error)
                return
        if done is not None:
            done()

    def break_off(self, reason: str) -> None:
        """Close at once by a reset: what it carries for was lost. Told to the subject as such."""
        if self.subject is not None:
            self._lost(OSError(errno.ECONNRESET, reason))

    def _reset(self) -> None:
        """Close a socket of our own by a reset."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        except OSError:
            pass
        self._socket.close()

    def _on_linger(self, events: int) -> None:
        """Events while the last words are on their way."""
        if self._out and not self._flush():
            return
        if not self._out and not self._last:
            self._finish()
            self._watch()
        try:
            if self._socket.recv_into(BUFFER):
                return
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if self._out:
            # The peer sends no more but has not read all yet.
            self.pause()
            self._watch()
        else:
            self.drop()

    def _finish(self) -> None:
        """All is sent: say that no more will come."""
        self._last = True
        try:
            if self._secure is not None:
                self._secure.close()
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._paused = 0

    def _flush(self) -> bool:
        """Send what waits; whether the End is still there."""
        try:
            sent = self._carrier.send(self._out)
        except BlockingIOError:
            return True
        except OSError as error:
            self._send_failed(error)
            return self.subject is not None
        self._took(sent)
        return True

    def _took(self, sent: int) -> None:
        """The socket took so much of what waits."""
        self._out = self._out[sent:]
        if not self._out:
            self._drained()
            if self._ending is not None:
                self._end_sending()
        self._watch()

    def _flushed(self, events: int) -> bool:
        """Serve what is not plain readability; whether reading may go on."""
        if self._out and not self._flush():
            return False
        if events & BROKEN and self._paused:
            # Told once: a send may have been told of it before, when reading was still allowed.
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            broken = OSError(error, os.strerror(error)) if error else self._broken
            if broken is not None:
                self._lost(broken)
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

    def _watch(self) -> None:
        """Tell the epoll what is waited for now."""
        if self._out:
            self._set_events(OUT if self._paused else IN | OUT)
        else:
            self._set_events(PAUSED if self._paused else IN)

    def _set_events(self, events: int) -> None:
        if events != self._events and self._fd >= 0:
            self._events = events
            self._link._epoll.modify(self._fd, events)

    def _end(self, close: Callable[[], object]) -> None:
        if self._fd < 0:
            return
        if self.subject is None:
            self._link._lingering.discard(self)
        self.subject = None
        self._out = b""
        self._ending = None
        # A bound method of our own would keep us alive until the next garbage collection.
        self._handler = _nothing
        fd, self._fd = self._fd, -1
        self._link._remove(fd, close, self._owner is not None)

    # What an End has to say to it

    def _drained(self) -> None:
        """All that waited is sent."""

    def _lost(self, error: OSError) -> None:
        """The socket broke."""
        raise NotImplementedError
