"""What the API may ask of the daemon as a whole; the daemon hands it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred


@dataclass(frozen=True, slots=True)
class Place:
    """A listener that is open: what comes there (C{postgres}), and where it is."""

    kind: str
    address: str


class Operations(Protocol):
    """The daemon."""

    @property
    def state(self) -> str:
        """C{starting}, C{ready} or C{draining}."""

    @property
    def uptime(self) -> float:
        """Seconds since the start."""

    def places(self) -> Sequence[Place]:
        """The listeners that are open."""

    def pools(self) -> Sequence[dict[str, Any]]:
        """Each pool with its numbers, as C{GET /api/docker/proxy} tells them."""

    def upstreams(self) -> Sequence[dict[str, Any]]:
        """Each upstream with its instances, in the same way."""

    def restart(self) -> Deferred[None]:
        """
        Reopen pools and listeners, and keep what is in flight.

        Fails with L{StartError<proxyd.errors.StartError>} where a listener can't be opened again.
        """
