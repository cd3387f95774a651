"""
What the process does when it is sent a signal.

twistd's own handlers neither drain nor stop at a second signal, and SIGHUP
kills; these take their place once the reactor has installed its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Reactor(Protocol):
    """What of Twisted's reactor is used here (C{ReactorBase} has all of it)."""

    def callWhenRunning(self, callable: Callable[..., object], /) -> object:
        """Call once the reactor has started, its own signal handlers installed."""

    def callFromThread(self, callable: Callable[..., object], /, *args: object) -> None:
        """Call in the next turn; safe from a signal handler."""

    def callLater(
        self, delay: float, callable: Callable[..., object], /, *args: object
    ) -> IDelayedCall:
        """Call in so many seconds."""

    def sigTerm(self, number: int, frame: FrameType | None = None, /) -> None:
        """Stop, and have twistd end the process by this signal."""

    def sigInt(self, number: int, frame: FrameType | None = None, /) -> None:
        """Stop, and have twistd end the process by this signal."""

    def crash(self) -> None:
        """Leave the main loop now, without waiting for anybody's shutdown."""


class Signals(Service):
    """
    SIGTERM and SIGINT drain, a second one stops at once, SIGHUP reloads.

    The first SIGTERM or SIGINT calls C{drain}; when that is done the reactor
    is stopped, which stops all services. The second one cancels the drain and
    stops the reactor at once; what has not stopped after C{patience} seconds
    is left as it is. In each case the process then ends by that signal, as
    twistd does.

    The handlers stay for as long as the process does, as a shutdown that hangs
    after this service was stopped must still end at a second signal.

    @param reactor: Twisted's reactor
    @param drain: ends all work that should not be broken off; called once;
        its Deferred must bear being cancelled
    @param reload: reads the configuration again; never called while it still
        runs: signals that came meanwhile become one more call
    @param patience: seconds that all services have to stop after the second signal
    """

    name = "signals"
    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        drain: Callable[[], Deferred[object]],
        reload: Callable[[], Deferred[object] | None],
        patience: float = 1.0,
    ) -> None:
        self._reactor = reactor
        self._drain = drain
        self._reload = reload
        self._patience = patience
        self._draining: Deferred[object] | None = None
        self._asked = 0
        self._leaving = False
        self._reloading = False
        self._reload_again = False

    def startService(self) -> None:
        """Take the signals now, and back from the reactor when it has begun to run."""
        self.running = 1
        self._install()
        self._reactor.callWhenRunning(self._install)
        self._log.debug("signals: SIGTERM and SIGINT drain, SIGHUP reloads")

    def stopService(self) -> None:
        """Nothing is undone: the signals stay ours until the process ends."""
        self.running = 0

    def _install(self) -> None:
        for number in STOPPING:
            signal.signal(number, self._stop_signal)
        signal.signal(signal.SIGHUP, self._reload_signal)

    def _stop_signal(self, number: int, frame: FrameType | None) -> None:
        """Called by Python between two instructions of whatever runs: do next to nothing."""
        self._asked += 1
        if self._asked == 2:
            # The reactor's own turn may never come, if some code of ours hangs.
            signal.signal(signal.SIGALRM, lambda *_: _die(number))
            signal.setitimer(signal.ITIMER_REAL, self._patience + 0.5)
        self._reactor.callFromThread(self._stop_asked, number, self._asked)

    def _reload_signal(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reload_asked)

    def _stop_asked(self, number: int, time: int) -> None:
        name = signal.Signals(number).name
        if time == 1:
            self._log.info("{signal}: draining; a second signal stops at once", signal=name)
            self._draining = maybeDeferred(self._drain)
            self._draining.addErrback(self._drain_failed)
            self._draining.addCallback(lambda _: self._leave(number))
        elif time == 2:
            self._log.warn("{signal} again: stopping at once", signal=name)
            self._leave(number)
            if self._draining is not None:
                self._draining.cancel()
            self._reactor.callLater(self._patience, self._reactor.crash)
        else:
            self._reactor.crash()

    def _drain_failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self._log.failure("the drain failed: stopping", failure, LogLevel.error)

    def _leave(self, number: int) -> None:
        """
        Stop the reactor, once.

        By the reactor's own handlers: they keep the signal, by which twistd
        then ends the process.
        """
        if self._leaving:
            return
        self._leaving = True
        if number == signal.SIGINT:
            self._reactor.sigInt(number)
        else:
            self._reactor.sigTerm(number)

    def _reload_asked(self) -> None:
        if self._asked:
            self._log.info("SIGHUP: not reloading, as the daemon is stopping")
            return
        if self._reloading:
            self._reload_again = True
            self._log.info("SIGHUP: reloading once more when this reload is done")
            return
        self._reloading = True
        self._log.info("SIGHUP: reloading")
        reloading = maybeDeferred(self._reload)
        reloading.addErrback(self._reload_failed)
        reloading.addCallback(self._reloaded)

    def _reload_failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self._log.failure("the reload failed", failure, LogLevel.error)

    def _reloaded(self, _: object) -> None:
        self._reloading = False
        if self._reload_again:
            self._reload_again = False
            self._reload_asked()


def _die(number: int) -> None:
    """End the process by this signal, here and now."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
