"""
What sessions stand on, and what they carry.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, unique
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from proxyd.config.times import SsmTimes
from proxyd.errors import DialError
from proxyd.session_source import ISessionSource
from proxyd.ssm.socket import SocketOpener

_POOL = 4096


@unique
class Phase(Enum):
    """Where a session is in its life."""

    STARTING = "starting"
    OPEN = "open"
    ENDING = "ending"
    OVER = "over"


class Port(Protocol):
    """What is carried in a session."""

    def data_received(self, data: bytes) -> None:
        """
        Bytes came, in order.

        @raise ProtocolError: they make no sense: the session is ended
        """

    def flag_received(self, flag: int) -> None:
        """The agent raised a flag."""

    def progress(self) -> None:
        """The agent has taken something, or there is room again."""

    def session_over(self, error: DialError) -> None:
        """Nothing more comes or goes."""


class Unended:
    """Sessions of which AWS was not told yet that they are over."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return self._count

    def begin(self) -> None:
        """There is one more."""
        self._count += 1

    def end(self) -> None:
        """One of them is over, and AWS was told, as far as it can be reached."""
        self._count -= 1
        if not self._count:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(None)

    def none_left(self) -> Deferred[None]:
        """Fires when there are none."""
        done: Deferred[None] = Deferred()
        if self._count:
            self._waiting.append(done)
        else:
            done.callback(None)
        return done


@dataclass(frozen=True, slots=True)
class Ground:
    """
    What all sessions of an upstream stand on.

    @param since: seconds since 1970 when the clock showed 0
    """

    clock: IReactorTime
    source: ISessionSource
    opener: SocketOpener
    times: SsmTimes
    since: float
    new_id: Callable[[], bytes] = field(default_factory=lambda: partial(next, _ids()))
    unended: Unended = field(default_factory=Unended)


def _ids() -> Iterator[bytes]:
    """Random ids: one is needed for every frame, so that chance is asked for many at once."""
    while True:
        pool = secrets.token_bytes(_POOL)
        for start in range(0, _POOL, 16):
            yield pool[start : start + 16]
