"""
Wrong cancel keys: how many a place may send before it has to wait.

A key is a secret that can be guessed as often as somebody connects. So each
wrong one is counted, for the address that it came from (of IPv6 for its
network: whoever has one address there has 2^64), and beyond what mistaken
drivers send, keys from there are looked at one after the other. A key that is
handed on to another node counts as well: here nobody can say whether it is
wrong, and there all that this node hands on comes from one place.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from proxyd.postgres.directory import Address

FREE = 100
"""Wrong keys from one place that cost no waiting: late cancels of sessions that are over."""

RATE = 10.0
"""Beyond these, keys a second that are looked at; so many are forgiven a second, too."""

LONGEST = 5.0
"""Seconds that a key waits at most; those behind are not looked at."""

_REMEMBERED = 10_000
_NETWORK = 64


@dataclass(slots=True)
class _Place:
    """
    What is known of a place.

    @ivar wrong: its wrong keys, less those that time has forgiven
    @ivar at: when that was so, in the clock's seconds
    @ivar turn: when the last of its waiting keys is looked at
    """

    wrong: float = 0.0
    at: float = 0.0
    turn: float = 0.0


class Guesses:
    """
    Who has sent wrong keys lately.

    @ivar wrong: wrong keys in all
    @ivar dropped: keys in all that nobody looked at
    """

    def __init__(self) -> None:
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self.wrong = 0
        self.dropped = 0

    def wait(self, place: str, now: float) -> float | None:
        """
        How long a key from this place has to wait before it is looked at.

        @param now: the clock's seconds
        @return: seconds; None: it is not to be looked at
        """
        known = self._places.get(place)
        if known is None or self._left(known, now) < FREE:
            return 0.0
        turn = max(known.turn, now) + 1 / RATE
        if turn - now > LONGEST:
            self.dropped += 1
            return None
        known.turn = turn
        return turn - now

    def note(self, place: str, now: float, *, known: bool = True) -> bool:
        """
        A key from this place was wrong, or may have been.

        @param known: that it was; not so of a key that is for another node to look at
        @return: whether it is the one from which on the place has to wait
        """
        self.wrong += known
        there = self._places.pop(place, None) or _Place(at=now)
        before = self._left(there, now)
        # Not more than what a minute forgives: nobody is to wait for ever.
        there.wrong, there.at = min(before + 1, FREE + 60 * RATE), now
        self._places[place] = there
        while len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)
        return before < FREE <= there.wrong

    def _left(self, known: _Place, now: float) -> float:
        return max(known.wrong - (now - known.at) * RATE, 0.0)


def place_of(address: Address | None) -> str:
    """The place that an address belongs to."""
    if address is None:
        return "unix"
    if address.version == 4:
        return str(address)
    return str(int(address) >> _NETWORK)
