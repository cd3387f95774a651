"""The regular info line of whoever has something to count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

Source = Callable[[], Iterable[tuple[str, Mapping[str, object]]]]
"""Gives the lines to log now: each a format and its fields, as for C{Logger.info}."""


class Statistics(Service):
    """
    Logs what its sources have to say, once a period, at level info.

    A source that fails is logged and asked again the next time; the others are
    not kept from speaking.

    @param clock: who measures the period
    @param sources: asked in order
    @param period: seconds between two rounds; the first comes after one period
    """

    name = "statistics"
    _log = Logger()

    def __init__(
        self, clock: IReactorTime, sources: Sequence[Source], period: float = 60.0
    ) -> None:
        self._sources = list(sources)
        self._period = period
        self._round = LoopingCall(self._tell)
        self._round.clock = clock

    def startService(self) -> None:
        """Begin; the first lines come one period from now."""
        self.running = 1
        # Its Deferred only fires when it is stopped: _tell lets nothing out.
        self._round.start(self._period, now=False)

    def stopService(self) -> None:
        """Stop; nothing more is logged."""
        self.running = 0
        if self._round.running:
            self._round.stop()

    def _tell(self) -> None:
        for source in self._sources:
            try:
                for text, fields in source():
                    self._log.info(text, **fields)
            except Exception:
                self._log.failure("statistics could not be gathered")
