"""
Attempts at several addresses of a name, of which the first to connect wins.

The next is tried when the one before has failed, or has not answered for a
quarter of a second (RFC 8305, "Happy Eyeballs", sections 4 and 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from proxyd.dial.failures import summed_up, translated
from proxyd.errors import DialError
from proxyd.net.resolver import Address
from proxyd.target import Target

T = TypeVar("T")

STAGGER = 0.25
"""Seconds between the starts of two attempts (RFC 8305, section 5)."""


class Race(Generic[T]):
    """
    One dial of some addresses.

    There is no deadline in here: callers C{addTimeout}.
    """

    def __init__(
        self,
        clock: IReactorTime,
        addresses: Sequence[Address],
        attempt: Callable[[Address], Deferred[T]],
        stagger: float = STAGGER,
    ) -> None:
        """
        @param attempt: begins to connect to an address; cancelling it leaves nothing behind
        @param stagger: seconds between the starts of two attempts
        """
        self._clock = clock
        self._addresses = interleaved(addresses)
        self._attempt = attempt
        self._stagger = stagger
        self._running: list[Deferred[T]] = []
        self._problems: list[DialError] = []
        self._next: IDelayedCall | None = None
        self._outcome: Deferred[T] = Deferred(lambda _: self._end())

    def run(self) -> Deferred[T]:
        """Begin. Fails with DialError when all have failed; cancelling ends all."""
        self._try_next()
        return self._outcome

    def _try_next(self) -> None:
        self._wait_no_more()
        if not self._addresses:
            if not self._running:
                self._outcome.errback(summed_up(self._problems))
            return
        address = self._addresses.pop(0)
        if self._addresses:
            self._next = self._clock.callLater(self._stagger, self._try_next)
        attempt = self._attempt(address)
        self._running.append(attempt)
        attempt.addCallbacks(
            self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt, address)
        )

    def _won(self, made: T, attempt: Deferred[T]) -> None:
        self._running.remove(attempt)
        self._end()
        self._outcome.callback(made)

    def _lost(self, failure: Failure, attempt: Deferred[T], address: Address) -> None:
        if attempt not in self._running:
            return  # the race is over: this is what became of our cancel
        self._running.remove(attempt)
        where = str(Target(address.host, address.port))
        self._problems.append(translated(failure.value, where))
        self._try_next()

    def _end(self) -> None:
        """Give up whatever still runs."""
        self._addresses.clear()
        self._wait_no_more()
        running, self._running = self._running, []
        for attempt in running:
            attempt.cancel()

    def _wait_no_more(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """
    The addresses, the families taking turns (RFC 8305, section 4).

    So one family that goes nowhere costs one stagger and not all of them. The
    first address stays the first.
    """
    first = [address for address in addresses if address.family == addresses[0].family]
    other = [address for address in addresses if address.family != addresses[0].family]
    pairs = chain.from_iterable(zip_longest(first, other))
    return [address for address in pairs if address is not None]
