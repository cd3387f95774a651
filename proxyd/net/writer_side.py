"""
The writing side of a stream whose bytes wait for their turn: who writes is paused while much waits.

For streams that are no sockets: channels of SSH, connections in a session of
Session Manager.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet._producer_helpers import _PullToPush
from twisted.internet.address import HostnameAddress
from twisted.internet.interfaces import IAddress, IProducer, IPullProducer

from proxyd.target import Target

HIGH_WATER = 64 * 1024
LOW_WATER = 16 * 1024
"""Where a writer is paused, and where it goes on."""


class WriterSide:
    """
    What waits to be sent, and whoever writes it.

    Whoever is built upon this pauses and resumes the writer as C{pending} grows
    and shrinks, and says C{_over} when all is over.

    @ivar target: where the stream leads
    @ivar pending: bytes that wait to be sent
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.pending = 0
        self._over = False
        self._waiting: deque[bytes | memoryview] = deque()
        self._producer: Any = None
        self._producer_paused = False

    def _all_written(self) -> None:
        """Nothing waits: whatever was put off until then is to be done."""
        raise NotImplementedError

    def getPeer(self) -> IAddress:
        """The target, by the name that was asked for."""
        return HostnameAddress(self.target.host.encode("idna"), self.target.port)

    def getHost(self) -> IAddress:
        """Not known: the far side does not say from which address it dials."""
        return HostnameAddress(b"", 0)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take over whoever writes here; it is paused while too much waits."""
        if self._producer is not None:
            raise RuntimeError(f"a producer is registered already: {self._producer!r}")
        if self._over:
            producer.stopProducing()
            return
        if not streaming:
            pull: IPullProducer = producer  # type: ignore[assignment]
            producer = wrapped = _PullToPush(pull, self)  # type: ignore[no-untyped-call]
            self._producer = producer
            wrapped.startStreaming()  # type: ignore[no-untyped-call]
            return
        self._producer = producer
        if self.pending > HIGH_WATER:
            self._pause_writer()

    def unregisterProducer(self) -> None:
        """The writer is done."""
        producer, self._producer = self._producer, None
        self._producer_paused = False
        if isinstance(producer, _PullToPush):
            producer.stopStreaming()  # type: ignore[no-untyped-call]
        if not self._waiting:
            self._all_written()

    def _pause_writer(self) -> None:
        if self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def _resume_writer(self) -> None:
        self._producer_paused = False
        if self._producer is not None:
            self._producer.resumeProducing()
