"""
A client and its target, joined: how each ends, and what the other is told.
"""

from __future__ import annotations

from proxyd.net.end import End
from proxyd.net.relay import join
from proxyd.socks.allowances import Allowance, rates_of


class Joined:
    """
    The subject of two Ends, once they are joined.

    @ivar end: the client's
    @ivar target: the target's; None: there is none yet
    @ivar allowances: whose limits count
    """

    __slots__ = ("_ends", "_sent_ends", "allowances", "end", "target")

    end: End

    def __init__(self) -> None:
        self._ends = 0
        self._sent_ends = 0
        self.allowances: list[Allowance] = []
        self.target: End | None = None

    def over(self, why: str) -> None:
        """It has ended; called before the sockets are closed."""
        raise NotImplementedError

    def left(self) -> None:
        """The client sends no more, and there is no target."""
        raise NotImplementedError

    def alerted(self, end: End) -> None:
        """There is no flow to be alerted by."""

    def carry(self, target: End) -> None:
        """Join the two, no faster than they may go."""
        up, down = rates_of(self.allowances, 0), rates_of(self.allowances, 1)
        if up:
            self.end.limit(up)
        if down:
            target.limit(down)
        join(self.end, target, self, None, None)  # type: ignore[arg-type]  # with received

    def finished(self, end: End) -> None:
        """One side sends no more: the other is told, when it has all."""
        target = self.target
        if target is None:
            self.left()
            return
        other = target if end is self.end else self.end
        self._ends += 1
        if self._ends == 2 and not (self.end.pending or target.pending):
            self._close()
        else:
            other.finish(lambda: self._sent_end(other))

    def _sent_end(self, end: End) -> None:
        """One direction is over, all of it sent."""
        self._sent_ends += 1
        if self._sent_ends == 2 or end.secure is not None:
            self._close()

    def _close(self) -> None:
        """Both directions are over, or one is which can't end by itself."""
        target = self.target
        assert target is not None
        self.over("closed")
        for one in (self.end, target):
            if one.secure is not None or one.pending:
                one.close()
            else:
                one.drop()

    def gone(self, end: End, reason: str) -> None:
        """One side is lost: the other is reset."""
        who, other = ("client", self.target) if end is self.end else ("target", self.end)
        self.over(f"{who} lost: {reason}")
        if other is not None:
            other.abort()

    def kill(self, reason: str) -> None:
        """End it now."""
        self.over(reason)
        self.end.abort()
        if self.target is not None:
            self.target.abort()
