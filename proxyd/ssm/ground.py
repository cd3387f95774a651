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


def _ids() -> Iterator[bytes]:
    """Random ids: one is needed for every frame, so that chance is asked for many at once."""
    while True:
        pool = secrets.token_bytes(_POOL)
        for start in range(0, _POOL, 16):
            yield pool[start : start + 16]
