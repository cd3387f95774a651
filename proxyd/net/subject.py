"""
Those who work with the Ends of the link, as the link sees them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxyd.net.end import End


class Subject(Protocol):
    """Whoever an End works for, as long as it is not closed."""

    def received(self, end: End, data: bytes) -> None:
        """Bytes came while the End talks."""

    def alerted(self, end: End) -> None:
        """The flow of two joined Ends asks for attention; what this one gave was sent on."""

    def finished(self, end: End) -> None:
        """The peer will send no more (FIN, or TLS close_notify); it may still read."""

    def gone(self, end: End, reason: str) -> None:
        """The socket is lost; the End is closed already."""


class Scans(Protocol):
    """What watches the message borders of one direction."""

    def scan(self, data: bytes | bytearray | memoryview, size: int) -> int:
        """How many of the bytes may be sent on."""


class Carrier(Protocol):
    """A non-blocking socket, or TLS on one."""

    def recv_into(self, buffer: bytearray, size: int = 0, /) -> int:
        """Take bytes; 0 when there will be no more."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Give bytes; how many were taken."""


class Relayed(Protocol):
    """What two joined Ends look at after each chunk."""

    alert: bool


class Owner(Protocol):
    """Whoever owns the lifetime of a socket that the link only borrows: Twisted's transport."""

    def loseConnection(self) -> object:
        """Close in order."""

    def abortConnection(self) -> object:
        """Close by a reset."""
