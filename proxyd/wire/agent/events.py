"""
What happens on an agent's session, whichever way it is spoken: frames or JSON.

Both machines, L{Mux<proxyd.wire.agent.mux.Mux>} and
L{JsonSession<proxyd.wire.agent.json_session.JsonSession>}, have these events
and the same verbs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxyd.wire.agent.frames import Code


@dataclass(frozen=True, slots=True)
class OpenRequested:
    """
    The peer wants a stream: answer by C{accept} or C{refuse}.

    @param fields: what it said: C{proxy_id}, C{user_id}, C{remote_host},
        C{remote_port}, C{protocol}, and whatever else; not checked
    """

    stream: int
    fields: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream that we asked for is there."""

    stream: int


@dataclass(frozen=True, slots=True)
class OpenFailed:
    """A stream that we asked for could not be had; it is gone."""

    stream: int
    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Data:
    """
    Bytes for a stream: say C{consumed} when they have gone on.

    @param pieces: of a message that came, or views into it: whoever keeps some of it copies that
    """

    stream: int
    pieces: tuple[bytes | memoryview, ...]

    @property
    def data(self) -> bytes:
        """All of it, copied."""
        return b"".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Finished:
    """The peer sends no more on a stream; the other direction goes on."""

    stream: int


@dataclass(frozen=True, slots=True)
class WasReset:
    """The peer gave a stream up; it is gone, and what was on its way with it."""

    stream: int
    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Writable:
    """A stream that was full takes more."""

    stream: int


@dataclass(frozen=True, slots=True)
class Closed:
    """Both directions of a stream have ended in order; it is gone."""

    stream: int


@dataclass(frozen=True, slots=True)
class Alive:
    """
    An answer to a ping.

    @param round_trip: seconds
    """

    round_trip: float


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer takes no more streams, and ends the session soon."""

    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Datagram:
    """A datagram of a stream; none is answered for."""

    stream: int
    data: bytes


Event = (
    OpenRequested
    | Opened
    | OpenFailed
    | Data
    | Finished
    | WasReset
    | Writable
    | Closed
    | Alive
    | GoneAway
    | Datagram
)
