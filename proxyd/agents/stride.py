"""
How long the messages of a session are: long ones cost less, short ones let others by.

What waits for the socket can't be passed by a keystroke. So a message is as long as the
line takes quickly.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from proxyd.agents.sockets import READ
from proxyd.config.times import AGENT_LINE_SLOW

MOST = READ
"""About how many bytes a message has at most, where so much waits: each costs its own calls."""

LEAST = 16 * 1024
"""The same on the slowest line."""


class Stride:
    """
    The length of the next message.

    @ivar length: in bytes, about
    """

    __slots__ = ("_clock", "_since", "length")

    def __init__(self, clock: IReactorTime) -> None:
        self.length = MOST
        self._clock = clock
        self._since: float | None = None

    def began(self) -> None:
        """A message waits for the socket."""
        if self._since is None:
            self._since = self._clock.seconds()

    def ended(self) -> None:
        """The socket has taken it."""
        if self._since is None:
            return
        took, self._since = self._clock.seconds() - self._since, None
        if took > AGENT_LINE_SLOW:
            self.length = max(LEAST, self.length // 2)
        elif took < AGENT_LINE_SLOW / 4:
            self.length = min(MOST, 2 * self.length)
