"""
A conversation on an End: chunk after chunk, each for whoever waits for one.

Nothing is read from the socket while nobody waits for it, so a peer that sends
ahead fills its own socket buffer, not our memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from proxyd.net.end import End


class Lost(Exception):
    """The peer went away in the middle of a conversation; the text says how."""


class Hearer(Protocol):
    """Whoever waits for the next bytes: one of the two is called, once."""

    def heard(self, data: bytes) -> None:
        """The peer said this; never empty."""

    def unheard(self, reason: str) -> None:
        """The peer says no more, for this reason."""


class _Chunk:
    """Hears for a coroutine."""

    __slots__ = ("_done",)

    def __init__(self, done: Deferred[bytes]) -> None:
        self._done = done

    def heard(self, data: bytes) -> None:
        self._done.callback(data)

    def unheard(self, reason: str) -> None:
        self._done.errback(Lost(reason))


class Conversation:
    """
    The subject of an End that is being talked with.

    @ivar end: the End; set by whoever makes it
    @ivar early: what came and was not taken yet
    @ivar stirred: called when something comes, or the peer goes, while nobody
        waits for a chunk
    @ivar shown: what L{look} has shown to somebody else, for the next L{glance}
    @ivar lost: how the peer went away; empty as long as it is there
    """

    __slots__ = ("_waiting", "early", "end", "lost", "shown", "stirred")

    end: End

    def __init__(self) -> None:
        self._waiting: Hearer | None = None
        self.early = b""
        self.stirred: Callable[[], None] | None = None
        self.lost = ""
        self.shown = b""

    def take_early(self) -> bytes:
        """Take what came while nobody waited; empty when nothing did."""
        data, self.early = self.early, b""
        return data

    def put_back(self, data: bytes) -> None:
        """Give back what belongs to whoever reads next."""
        self.early = data + self.early

    def hear(self, hearer: Hearer) -> None:
        """
        Give the next bytes of the peer to C{hearer}; at once, if they are here already.

        A coroutine waits by L{chunk} instead. Where each login and each
        statement of our own waits, this costs a tenth.
        """
        if self.early:
            hearer.heard(self.take_early())
        elif self.lost:
            hearer.unheard(self.lost)
        else:
            self._waiting = hearer
            self.end.resume()

    def chunk(self) -> Deferred[bytes]:
        """
        The next bytes of the peer, never empty.

        Fails with L{Lost} when there will be none. May be cancelled.
        """
        done: Deferred[bytes] = Deferred(self._cancelled)
        self.hear(_Chunk(done))
        return done

    def ignore(self) -> None:
        """Nobody waits for the next bytes any more: read nothing."""
        self._waiting = None
        if not self.end.closed:
            self.end.pause()

    def glance(self) -> Deferred[bytes]:
        """
        What the peer sent, left where it is: in the socket.

        For what may be followed by TLS, or be TLS; L{take} takes of it what is
        not. Nothing may have been put back. Fails with L{Lost} as L{chunk} does.
        """
        done: Deferred[bytes] = Deferred(self._cancelled)
        if self.shown:
            seen, self.shown = self.shown, b""
            done.callback(seen)
        else:
            self.look(_Chunk(done))
        return done

    def look(self, hearer: Hearer) -> None:
        """The same for a hearer."""
        if self.lost:
            hearer.unheard(self.lost)
        else:
            self._waiting = hearer
            self.end.glance(self._seen)

    def take(self, count: int) -> bytes:
        """Take so many bytes of those that L{glance} has shown; fewer where the peer is lost."""
        self.shown = b""
        return self.end.take(count)

    async def secure(self, context: SSL.Context, server: str | None) -> None:
        """
        Begin TLS, and wait for the handshake.

        @param server: the name of the server we are a client of; None: we are
            the server
        @raise Lost: the handshake failed, or the peer went away
        """
        secured: Deferred[None] = Deferred()
        waiting = self.chunk()

        def failed(failure: Failure) -> None:
            if not secured.called:
                secured.errback(failure)

        waiting.addErrback(failed)
        try:
            self.end.tls(context, server, lambda: secured.callback(None))
            await secured
        finally:
            waiting.cancel()

    def received(self, end: End, data: bytes) -> None:
        """The link brought bytes."""
        end.pause()
        waiting = self._waiting
        if waiting is None:
            self.early += data
            self._stir()
        else:
            self._waiting = None
            waiting.heard(data)

    def _seen(self, data: bytes) -> None:
        """The link shows what came."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.heard(data)

    def finished(self, end: End) -> None:
        """The peer sends no more."""
        self._leave("closed the connection")

    def gone(self, end: End, reason: str) -> None:
        """The socket is lost."""
        self._leave(reason)

    def alerted(self, end: End) -> None:
        """Joined Ends have another subject: nothing to do."""

    def give_up(self) -> None:
        """Whoever waits for a chunk waits no longer: it did not come in time."""
        self._leave("it did not answer in time")

    def _leave(self, reason: str) -> None:
        self.lost = self.lost or reason
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.unheard(reason)
        else:
            self._stir()

    def _stir(self) -> None:
        if self.stirred is not None:
            self.stirred()

    def _cancelled(self, done: Deferred[bytes]) -> None:
        self.ignore()
