"""
Those who wait for a server connection of one pool: first come, first served.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from proxyd.net.deadlines import Deadlines
from proxyd.postgres.answers import Fatal
from proxyd.postgres.server_connection import ServerConnection

Place = Deferred[ServerConnection]
"""Fires with a connection, or fails with L{Fatal}; cancel it to give the place up."""


class Queue:
    """Places in the order in which they were taken."""

    def __init__(self, clock: IReactorTime, seconds: float, too_late: Callable[[], Fatal]) -> None:
        """
        @param seconds: how long one waits at most
        @param too_late: what is told to whoever has waited that long
        """
        self._too_late = too_late
        self._places: Deadlines[Place] = Deadlines(clock, seconds, self._expired)
        self._moved: dict[Place, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def join(self) -> Place:
        """Take the last place."""
        place: Place = Deferred(self._given_up)
        self._places.add(place)
        return place

    def serve(self, server: ServerConnection) -> bool:
        """Give a connection to whoever has waited longest; whether there was anybody."""
        place = self._places.oldest
        if place is None:
            return False
        self._places.discard(place)
        place.callback(server)
        return True

    def turn_away(self, fatal: Fatal) -> None:
        """Tell everybody why there will be no connection."""
        for place in list(self._places):
            self._places.discard(place)
            place.errback(fatal)

    def move(self, acquire: Callable[[], Place]) -> None:
        """
        Let everybody wait elsewhere, in the same order; whoever gives up does so there.

        @param acquire: takes a place there
        """
        for place in list(self._places):
            self._places.discard(place)
            self._follow(place, acquire())

    def stop(self) -> None:
        """Nobody waits here any more: end the timer."""
        self._places.stop()

    def _follow(self, place: Place, moved: Place) -> None:
        self._moved[place] = moved

        def over(result: object) -> object:
            self._moved.pop(place, None)
            return result

        moved.addBoth(over)
        moved.chainDeferred(place)

    def _given_up(self, place: Place) -> None:
        self._places.discard(place)
        moved = self._moved.pop(place, None)
        if moved is not None:
            moved.cancel()

    def _expired(self, place: Place) -> None:
        place.errback(self._too_late())
