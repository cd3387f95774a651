"""
One deadline for many things: all of them have the same number of seconds.

Cheaper than a timed call each where thousands wait: items stand in a queue in
the order of their end, and one timed call serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

T = TypeVar("T")


class Deadlines(Generic[T]):
    """
    Items that must be gone after so many seconds.

    Iterating gives the items, oldest first.
    """

    def __init__(self, clock: IReactorTime, seconds: float, expired: Callable[[T], object]) -> None:
        """
        @param seconds: how long each item has from L{add}
        @param expired: called with an item whose time is over, once
        """
        self._clock = clock
        self._seconds = seconds
        self._expired = expired
        self._items: dict[T, float] = {}
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __contains__(self, item: T) -> bool:
        return item in self._items

    @property
    def oldest(self) -> T | None:
        """The item that has waited longest."""
        return next(iter(self._items), None)

    def add(self, item: T) -> None:
        """Begin an item's time; it must not be in the queue already."""
        self._items[item] = self._clock.seconds() + self._seconds
        if self._call is None:
            self._schedule(self._seconds)

    def discard(self, item: T) -> None:
        """Forget an item, if it is here."""
        self._items.pop(item, None)

    def stop(self) -> None:
        """Forget all items."""
        self._items.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _schedule(self, seconds: float) -> None:
        self._call = self._clock.callLater(seconds, self._check)

    def _check(self) -> None:
        self._call = None
        now = self._clock.seconds()
        try:
            for item in [item for item, end in self._items.items() if end <= now]:
                if self._items.pop(item, None) is not None:
                    self._expired(item)
        finally:
            self._schedule_oldest(now)

    def _schedule_oldest(self, now: float) -> None:
        """Wait for the oldest item: what was added while others expired is younger."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        oldest = next(iter(self._items.values()), None)
        if oldest is not None:
            self._schedule(max(0.0, oldest - now))
