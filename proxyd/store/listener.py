"""
The thread that listens for notifications of the shared store.

It only wakes whoever reads what is new: what it misses is found a little later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg

from proxyd.store.statements import LISTEN
from proxyd.store.wire import Wire

_PATIENCE = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Listening:
    """A connection that listens, made anew when it is lost."""

    def __init__(self, reactor: Any, wire: Wire, woken: Callable[[], object]) -> None:
        """
        @param wire: used here alone
        @param woken: called in the reactor's thread, also after each new
            connection: something may have been missed
        """
        self._reactor = reactor
        self._wire = wire
        self._woken = woken
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._thread = threading.Thread(target=self._run, name="proxyd-listen", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; the thread ends by itself."""
        self._stopping.set()
        self._wire.interrupt()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                self._wire.run(LISTEN, {})
                self._wake()
                pause = _FIRST_PAUSE
                self._listen()
            except (psycopg.Error, OSError):
                self._wire.close()
                self._stopping.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        self._wire.close()

    def _listen(self) -> None:
        """Wake for what comes; look from time to time whether the connection is still there."""
        while not self._stopping.is_set():
            for _ in self._wire.connection.notifies(timeout=_PATIENCE, stop_after=1):
                self._wake()
            self._wire.run("SELECT 1", {})

    def _wake(self) -> None:
        if not self._stopping.is_set():
            self._reactor.callFromThread(self._woken)
