"""
What each subject of the daemon has to answer for, whatever it is.

The daemon goes through its rooms in one order to start, and in the opposite
one to stop; it knows nothing else of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from twisted.application.service import IService
from twisted.internet.defer import Deferred, succeed

from proxyd.config.model import Config
from proxyd.dial.direct import DirectDialer, IReactor
from proxyd.figures import Figure
from proxyd.net.link import Link
from proxyd.net.resolver import Resolver
from proxyd.net.sessions import Sessions
from proxyd.web.route import Resource

Line = tuple[str, Mapping[str, object]]
"""A line of the log: its format, and its fields."""


@dataclass(frozen=True, slots=True)
class Ground:
    """
    What every room stands on.

    @param environment: the process's variables
    @param direct: the way out that needs nothing else
    @param sessions: the registry of all live sessions
    """

    reactor: IReactor
    environment: Mapping[str, str]
    link: Link
    resolver: Resolver
    direct: DirectDialer
    sessions: Sessions = field(default_factory=Sessions)


class Room:
    """
    One subject's part of the daemon.

    What is here is the room that has nothing to do: each overrides what it
    needs.

    @ivar inner: services that others may lean on: started early, stopped late
    @ivar doors: services through which people come in: started last, stopped
        first
    """

    inner: Sequence[IService] = ()
    doors: Sequence[IService] = ()

    def prepare(self, config: Config) -> Callable[[], None]:
        """
        Get ready to follow a configuration, and change nothing yet.

        Called at the start and at each reload, for all rooms before any of
        them changes.

        @return: makes it so; must not fail
        @raise StartError: something that the configuration names can't be used
        """
        return lambda: None

    def open(self) -> None:
        """
        Open the listening sockets; nobody is let in before the doors start.

        @raise StartError: one can't be opened
        """

    def reopen(self) -> Deferred[None]:
        """
        Begin anew with what can be begun anew; nothing in flight is cut.

        Fails with L{StartError<proxyd.errors.StartError>} where something can't be
        opened again; all that can be is.
        """
        return succeed(None)

    def drain(self) -> Deferred[object]:
        """Let nobody in any more, and fire when those that are in have left."""
        return succeed(None)

    def left(self) -> int:
        """How many are still in."""
        return 0

    def fixed(self, config: Config) -> Mapping[str, object]:
        """The keys that a reload leaves as they are, with their values."""
        return {}

    def descriptors(self, config: Config) -> tuple[int, int]:
        """How many sockets clients may take, and how many we take toward servers."""
        return (0, 0)

    def places(self) -> Sequence[str]:
        """What it listens for and where, for people: C{PostgreSQL at 127.0.0.1:6432}."""
        return ()

    def addresses(self) -> Sequence[tuple[str, str]]:
        """The listeners that are open: what comes there (C{postgres}), and the real address."""
        return ()

    def resources(self) -> Sequence[Resource]:
        """The calls that it brings to the HTTP API."""
        return ()

    def figures(self) -> Iterator[Figure]:
        """Its numbers for the metrics, as they are now."""
        return iter(())

    def statistics(self) -> Iterator[Line]:
        """The lines for the log, once a minute."""
        return iter(())
