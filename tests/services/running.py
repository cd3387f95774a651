"""Another process, as a test sees it: what it says, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TWISTD = os.path.join(os.path.dirname(sys.executable), "twistd")
PATIENCE = 60.0
"""Seconds after which a process that says nothing is held to be stuck."""


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended: its exit code, or the signal it died by."""

    code: int | None
    signal: int | None


class Running(ProcessProtocol):
    """
    A process that was started for a test, and dies with it.

    @ivar out: what it wrote to stdout so far
    @ivar err: what it wrote to stderr so far
    """

    def __init__(
        self, case: TestCase, *arguments: str, directory: str | None = None, **environment: str
    ) -> None:
        self.out = ""
        self.err = ""
        self._awaited: list[tuple[str, int, Deferred[None]]] = []
        self._ended: Deferred[End] = Deferred()
        self.end: End | None = None
        # The one place of our code that a test must find is this checkout.
        path = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH", "")]))
        self.process = reactor.spawnProcess(
            self,
            arguments[0],
            list(arguments),
            {**os.environ, "PYTHONPATH": path, **environment},
            directory,
        )
        case.addCleanup(self._finish)

    def said(self, text: str, times: int = 1) -> Deferred[None]:
        """Fires when this text has come on stdout so often; fails when the process ends first."""
        waiting: Deferred[None] = Deferred()
        self._awaited.append((text, times, waiting))
        self._look()
        waiting.addTimeout(PATIENCE, reactor)
        return waiting

    def ended(self) -> Deferred[End]:
        """Fires with how it ended, once its output is all here."""
        if self.end is None:
            self._ended.addTimeout(PATIENCE, reactor)
        return self._ended

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.signalProcess(number)

    def outReceived(self, data: bytes) -> None:
        """More of its stdout."""
        self.out += data.decode()
        self._look()

    def errReceived(self, data: bytes) -> None:
        """More of its stderr."""
        self.err += data.decode()

    def processEnded(self, reason: Failure) -> None:
        """It is gone."""
        value = reason.value
        if isinstance(value, (ProcessDone, ProcessTerminated)):
            self.end = End(value.exitCode, value.signal)
        self._look()
        for text, _, waiting in self._awaited:
            waiting.errback(AssertionError(f"ended without {text!r}:\n{self.out}\n{self.err}"))
        self._ended.callback(self.end or End(None, None))

    def _look(self) -> None:
        for entry in list(self._awaited):
            text, times, waiting = entry
            if self.out.count(text) >= times:
                self._awaited.remove(entry)
                waiting.callback(None)

    def _finish(self) -> Deferred[End] | None:
        if self.end is not None:
            return None
        try:
            self.process.signalProcess("KILL")
        except ProcessExitedAlready:
            return None
        return self._ended


def python(case: TestCase, program: str, **environment: str) -> Running:
    """Run this text as a Python program."""
    return Running(case, sys.executable, "-u", "-c", program, **environment)


def twistd(case: TestCase, *arguments: str, directory: str, **environment: str) -> Running:
    """Run the real C{twistd -n} in this directory."""
    return Running(
        case,
        sys.executable,
        "-u",
        TWISTD,
        "-n",
        "--pidfile=twistd.pid",
        *arguments,
        directory=directory,
        **environment,
    )
