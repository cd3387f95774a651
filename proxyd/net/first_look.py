"""
A line whose first bytes are looked at before they are taken: TLS may begin with any of them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from proxyd.net.line import IN, Line

GLANCE = 16 * 1024
"""Bytes that are shown at most: more than any first packet or PROXY header has."""


class FirstLook(Line):
    """
    Shows what its peer has sent, and leaves it in the socket.

    @ivar received: bytes received from the peer, after TLS
    """

    __slots__ = ("_once", "received")

    _once: Callable[..., None] | None
    received: int

    def glance(self, seen: Callable[[bytes], None]) -> None:
        """
        Show what the peer sent, as soon as there is something, and leave it in the socket.

        For a peer that may begin TLS at any byte, before that. The End is
        paused then; an end or a loss is told to the subject instead.

        @param seen: called once, with L{GLANCE} bytes at most
        """
        self._once = seen
        self._handler = self._on_glance
        self.resume()

    def peek(self) -> bytes:
        """What the peer has sent by now, left in the socket as by L{glance}; empty: not yet."""
        try:
            return self._socket.recv(GLANCE, socket.MSG_PEEK)
        except OSError:
            return b""

    def take(self, count: int) -> bytes:
        """Take from the socket, now, so many bytes of those that a L{glance} has shown."""
        try:
            data = self._socket.recv(count)
        except OSError as error:
            self._lost(error)
            return b""
        self.received += len(data)
        return data

    # Events of the socket

    def _on_glance(self, events: int) -> None:
        """Events while what comes is only to be looked at."""
        if events & ~IN and not self._flushed(events):
            return
        try:
            data = self._socket.recv(GLANCE, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        seen, self._once = self._once, None
        self._handler = self._on_talk
        if not data:
            self._no_more()
            return
        self.pause()
        assert seen is not None
        seen(data)

    # What an End has to say to it

    def _on_talk(self, events: int) -> None:
        """Events while talking."""
        raise NotImplementedError

    def _no_more(self) -> None:
        """The peer will send no more."""
        raise NotImplementedError
