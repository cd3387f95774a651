"""
The one registry of live sessions: whoever wants to see or end one asks here.

A session is not registered one by one, which would cost at each connect: each
kind (PostgreSQL, SOCKS5, an agent's users) is added once, as a L{Source} that
knows its own sessions, and is looked at when somebody asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from proxyd.target import Principal


@dataclass(frozen=True, slots=True)
class Session:
    """
    A live session, as it is now.

    @param number: what the log and the API call it; used once, for all kinds together
    @param kind: C{postgres}, C{socks5}, C{agent}...
    @param target: the database, or the place, that it goes to
    @param state: what it is doing, in a word of its kind
    @param token_id: which token let it in; None: none did
    @param received: bytes that came from the client
    @param sent: bytes that went to the client
    @param began: when it logged in, in seconds since the epoch, as the reactor counts
    @param kill: ends it now, whatever it is doing; is given the reason for the log
    """

    number: int
    kind: str
    principal: Principal
    target: str
    state: str
    token_id: str | None
    received: int
    sent: int
    began: float
    kill: Callable[[str], object]


class Source(Protocol):
    """Whoever has sessions of one kind."""

    @property
    def kind(self) -> str:
        """What they are called."""

    def count(self) -> int:
        """How many there are now."""

    def live(self) -> Iterator[Session]:
        """Each of them, as it is now."""


class Sessions:
    """
    All live sessions, of all kinds.

    @ivar next_number: gives the number of a session that begins
    """

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.next_number: Callable[[], int] = numbers.__next__
        self._sources: list[Source] = []

    def add(self, source: Source) -> None:
        """Sessions of one more kind are here."""
        self._sources.append(source)

    def __iter__(self) -> Iterator[Session]:
        """Every session as it is now, oldest first."""
        found = [session for source in self._sources for session in source.live()]
        return iter(sorted(found, key=lambda session: session.number))

    def as_they_are(self) -> Iterator[Session]:
        """
        Each session in no order, made when its turn comes: a list may be read in steps.

        One that ends meanwhile may be among them.
        """
        for source in self._sources:
            yield from source.live()

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        found: dict[str, int] = {}
        for source in self._sources:
            found[source.kind] = found.get(source.kind, 0) + source.count()
        return found

    def find(self, number: int) -> Session | None:
        """The session of this number; None: it is over, or never was."""
        for source in self._sources:
            for session in source.live():
                if session.number == number:
                    return session
        return None
