"""
How many connections, and how many bytes a second, each user and each route has.

All counted here, also where nothing is limited: who uses what is worth knowing.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from proxyd.net.pace import Rate
from proxyd.rules.routes import Limits
from proxyd.socks.replies import Refused
from proxyd.wire.socks.words import Refusal


class Allowance:
    """
    What one user, or one route, has at this moment, and has had.

    @ivar name: of which user or route, for people
    @ivar open: connections now
    @ivar opened: connections since the start
    @ivar refused: how often there were too many
    @ivar up: bytes that clients sent in connections that have ended
    @ivar down: bytes that they were sent in them
    """

    __slots__ = ("down", "limits", "name", "open", "opened", "rates", "refused", "up")

    def __init__(self, name: str, limits: Limits, clock: IReactorTime) -> None:
        self.name = name
        self.open = self.opened = self.refused = self.up = self.down = 0
        self.use(limits, clock)

    def use(self, limits: Limits, clock: IReactorTime) -> None:
        """Keep other limits from now on."""
        self.limits = limits
        self.rates: tuple[Rate, Rate] | None = None
        if limits.bandwidth is not None:
            self.rates = (Rate(limits.bandwidth, clock), Rate(limits.bandwidth, clock))

    def take(self) -> None:
        """
        One connection more.

        @raise Refused: there are too many
        """
        most = self.limits.connections
        if most is not None and self.open >= most:
            self.refused += 1
            raise Refused(Refusal.GENERAL, f"{self.name} has {most} connections, all it may")
        self.open += 1
        self.opened += 1

    def give_back(self, up: int, down: int) -> None:
        """A connection is over."""
        self.open -= 1
        self.up += up
        self.down += down


class Allowances:
    """The allowances of all users, and of all routes."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._known: dict[str, Allowance] = {}

    def of(self, name: str, limits: Limits) -> Allowance:
        """The allowance of this name; its limits are as they are said last."""
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = Allowance(name, limits, self._clock)
        elif found.limits is not limits and found.limits != limits:
            found.use(limits, self._clock)
        return found

    def all(self) -> list[Allowance]:
        """Each of them, by name."""
        return [self._known[name] for name in sorted(self._known)]


def rates_of(allowances: list[Allowance], direction: int) -> list[Rate]:
    """The rates that one direction must keep (0: up, 1: down)."""
    return [one.rates[direction] for one in allowances if one.rates is not None]
