"""
A handshake on an End, as a coroutine reads it: chunk after chunk.

Nothing is read from the socket while nobody waits for it, so a peer that sends
ahead fills its own socket buffer, not our memory.
"""

from __future__ import annotations

from collections.abc import Callable

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from proxyd.net.end import End


class Lost(Exception):
    """The peer went away in the middle of a conversation; the text says how."""


class Conversation:
    """
    The subject of an End that is being talked with.

    @ivar end: the End; set by whoever makes it
    @ivar stirred: called when something comes, or the peer goes, while nobody
        waits for a chunk
    @ivar lost: how the peer went away; empty as long as it is there
    """

    __slots__ = ("_early", "_waiting", "end", "lost", "stirred")

    end: End

    def __init__(self) -> None:
        self._waiting: Deferred[bytes] | None = None
        self._early = b""
        self.stirred: Callable[[], None] | None = None
        self.lost = ""

    @property
    def early(self) -> bytes:
        """What came and was not taken yet."""
        return self._early

    def take_early(self) -> bytes:
        """Take what came while nobody waited; empty when nothing did."""
        data, self._early = self._early, b""
        return data

    def put_back(self, data: bytes) -> None:
        """Give back what belongs to whoever reads next."""
        self._early = data + self._early

    def chunk(self) -> Deferred[bytes]:
        """
        The next bytes of the peer, never empty.

        Fails with L{Lost} when there will be none. May be cancelled.
        """
        done: Deferred[bytes] = Deferred(self._cancelled)
        if self._early:
            done.callback(self.take_early())
        elif self.lost:
            done.errback(Lost(self.lost))
        else:
            self._waiting = done
            self.end.resume()
        return done

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
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            self._early += data
            end.pause()
            self._stir()
            return
        end.pause()
        waiting.callback(data)

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
            waiting.errback(Lost(reason))
        else:
            self._stir()

    def _stir(self) -> None:
        if self.stirred is not None:
            self.stirred()

    def _cancelled(self, done: Deferred[bytes]) -> None:
        self._waiting = None
        if not self.end.closed:
            self.end.pause()
