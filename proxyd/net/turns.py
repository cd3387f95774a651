"""
Whose wait it is: the link's, with the reactor's own epoll as one more descriptor in it.

Twisted's main loop asks C{reactor.doIteration} to wait, each turn. Were the
link's epoll a descriptor of the reactor's, as it is with other reactors, each
turn would ask two epolls for the same event; turned round, only what belongs
to Twisted is asked for twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.epollreactor import EPollReactor


class Turns:
    """
    The turns of an epoll reactor, each begun by somebody else's wait.

    @ivar fd: ready when one of the reactor's own descriptors is
    """

    def __init__(self, reactor: Any, turn: Callable[[float], None]) -> None:
        """
        Have a reactor wait by C{turn}, from its next turn on.

        @param reactor: one that L{can_be_led} says yes to
        @param turn: called with seconds, -1 for any number of them: to wait for
            C{fd} too, and if it is ready, to call L{serve}
        """
        self._reactor = reactor
        self._turn = turn
        self._own = reactor.doIteration
        self.fd: int = reactor._poller.fileno()
        reactor.doIteration = self._iterate

    def serve(self) -> None:
        """Let the reactor serve those of its own descriptors that are ready."""
        self._own(0)

    def leave(self) -> None:
        """The reactor waits by itself again, from its next turn on."""
        del self._reactor.doIteration

    def _iterate(self, timeout: float | None) -> None:
        self._turn(-1 if timeout is None else timeout)


def can_be_led(reactor: object) -> bool:
    """
    Whether a reactor may have its waiting done by another.

    Twisted's epoll reactor may, unless somebody does already. Its epoll has a
    private name: where that is missing, the answer is no.
    """
    return (
        isinstance(reactor, EPollReactor)
        and "doIteration" not in vars(reactor)
        and hasattr(getattr(reactor, "_poller", None), "fileno")
    )
