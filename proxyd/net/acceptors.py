"""All listening sockets of one kind of client: opened, opened anew and closed together."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from proxyd.config.model import Listener
from proxyd.errors import StartError
from proxyd.net.listening import Accepted, Acceptor, Watch, open_listener

_log = Logger()


class Acceptors:
    """The listening sockets of a kind of client."""

    def __init__(self, reactor: object, accepted: Accepted, watch: Watch | None = None) -> None:
        """
        @param accepted: takes each client's socket
        @param watch: watches the listening sockets; None: the reactor
        """
        self._reactor = reactor
        self._accepted = accepted
        self._watch = watch
        self._all: list[Acceptor] = []

    @property
    def addresses(self) -> list[object]:
        """Where they are open."""
        return [acceptor.address for acceptor in self._all if acceptor.is_open]

    def open(self, listeners: Iterable[Listener], who: str) -> None:
        """
        Open a socket for each listener of the configuration.

        @param who: comes there, for the log: C{PostgreSQL clients}
        @raise StartError: one can't be opened
        """
        for listener in listeners:
            self._all.append(open_listener(self._reactor, listener, self._accepted, self._watch))
            _log.info("{who} are welcome at {place}", who=who, place=listener.text)

    async def reopen(self) -> None:
        """
        Close each and open it anew where it was; who has come in stays.

        @raise StartError: one could not be opened again; the others are
        """
        problems = []
        for acceptor in self._all:
            try:
                await acceptor.reopen()
            except StartError as error:
                _log.error("{problem}", problem=str(error))
                problems.append(str(error))
        if problems:
            raise StartError("; ".join(problems))

    async def stop(self) -> None:
        """Close all."""
        for acceptor in self._all:
            await acceptor.stop()
        self._all.clear()
