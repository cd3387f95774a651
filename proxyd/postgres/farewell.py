"""
The last second of a session that is ended from outside, in the middle of a message.

The rest of that message is still sent, so that the client can read the error
behind it. A client that does not read, or a server that does not go on, is not
waited for: then the connection is aborted.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from proxyd.net.end import End
from proxyd.postgres.lease import Lease

WAITING_LIMIT = 256 * 1024
"""Bytes that may wait for a client that is to go."""


class Farewell:
    """One client that goes."""

    __slots__ = ("_call", "_end", "_give_back", "_lease", "_left", "_over", "_words")

    def __init__(
        self,
        end: End,
        lease: Lease | None,
        words: bytes,
        give_back: Callable[[Lease], object],
        over: Callable[[Farewell], object],
    ) -> None:
        """
        @param end: the client's socket, which is parted from the server's
        @param lease: what it had, where that server is in the middle of a message
        @param words: what the client is told last
        @param give_back: takes the lease, once
        @param over: called when all is said, or there is no time left
        """
        self._end = end
        self._lease = lease
        self._words = words
        self._give_back = give_back
        self._over: Callable[[Farewell], object] | None = over
        self._left = 0 if lease is None else lease.flow.server.left
        self._call: IDelayedCall | None = None

    def begin(self, clock: IReactorTime, seconds: float) -> None:
        """Go on for so many seconds at most."""
        lease = self._lease
        if lease is None or lease.server.end.closed or self._end.closed:
            self._last_words()
        if self._over is None:
            return
        self._call = clock.callLater(seconds, self._too_late)
        if lease is None or self._lease is None:
            return
        lease.flow.doubt = lease.flow.doubt or "a session was ended within a message"
        self._end.talk(self)
        lease.server.end.talk(self)
        lease.server.end.resume()
        lease.cancel()

    def stop(self) -> None:
        """There is no time left."""
        self._too_late()

    # What the two sockets say

    def received(self, end: End, data: bytes) -> None:
        """More of the message; or bytes of the client's, which nobody wants."""
        lease = self._lease
        if end is self._end or lease is None or not self._left:
            return
        part = data[: self._left]
        self._left -= len(part)
        lease.flow.server.scan(data, len(data))
        self._end.write(part)
        if self._end.closed or not self._left:
            self._last_words()
        elif self._end.pending > WAITING_LIMIT:
            end.pause()

    def alerted(self, end: End) -> None:
        """Nothing is joined any more."""

    def finished(self, end: End) -> None:
        """One sends no more: the message will not become whole, or nobody reads it."""
        if end is not self._end:
            self.stop()

    def gone(self, end: End, reason: str) -> None:
        """One is lost."""
        self.stop()

    def _last_words(self) -> None:
        """At a border: say why."""
        end = self._end
        if self._words or end.pending:
            end.close(self._words)
        else:
            end.drop()
        self._leave_server()
        if not end.pending:
            self._done()

    def _too_late(self) -> None:
        """A client that has not read everything by now never may."""
        end = self._end
        if self._left or end.pending:
            end.abort()
        self._leave_server()
        self._done()

    def _leave_server(self) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if not lease.server.end.closed:
            lease.server.end.talk(lease.server.conversation)
            lease.server.end.pause()
        self._give_back(lease)

    def _done(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        over, self._over = self._over, None
        if over is not None:
            over(self)


def within_message(lease: Lease | None) -> bool:
    """Whether a server is in the middle of a message of its."""
    return lease is not None and lease.flow.server.left > 0 and not lease.server.end.closed


def can_be_told(lease: Lease | None) -> bool:
    """Whether a message border is ahead, where a client can be told why its session ends."""
    return lease is None or not lease.flow.server.stopped
