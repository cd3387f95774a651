"""
What C{twistd} runs: the root of our services, with our log and our way to fail.

Shared by C{twistd proxyd} and C{twistd proxyd-agent}.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from typing import IO

from twisted.application.service import IServiceCollection
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

from proxyd.config.model import Log
from proxyd.errors import StartError
from proxyd.services.logs import escaped, observer
from proxyd.services.ordered import OrderedService


class StartFailed(SystemExit, Exception):
    """
    The daemon did not start; the process ends with code 1 and without a traceback.

    An C{Exception} too, so that twistd removes its pid file and tells whoever
    waits for the daemon, and a C{SystemExit}, so that Python prints no more.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.code = 1


class Root(OrderedService):
    """
    The daemon's place in twistd's application.

    Gives the application our log, from its first line on, and turns a start
    that is refused into one line and an exit code.

    @param log: its level and format
    @param stream: where the log goes; None: to where twistd would send it
    @param foreground: somebody sees our stderr
    @param name: what a start that is refused is said of
    """

    def __init__(
        self, log: Log, stream: IO[str] | None, foreground: bool, name: str = "proxyd"
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._log_settings = log
        self._stream = stream
        self._foreground = foreground
        self._name = name

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Become part of the application, and its log."""
        if self._stream is not None and isinstance(parent, Componentized):
            ours = observer(self._log_settings, self._stream)
            parent.setComponent(ILogObserver, ours)  # type: ignore[no-untyped-call]
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Start what needs privileges that are shed afterwards."""
        self._or_end(super().privilegedStartService)

    def startService(self) -> None:
        """Start everything, or end the process."""
        self._or_end(super().startService)

    def _or_end(self, start: Callable[[], object]) -> None:
        try:
            start()
        except StartError as error:
            line = f"{self._name}: {error}"
            if self._foreground:
                tell(line)
            else:
                # stderr is closed by now; twistd gives whoever started it the first words.
                self._log.critical("not started: {reason}", reason=str(error))
            raise StartFailed(escaped(line)) from None


def asked(options: Mapping[str, object]) -> Mapping[str, object]:
    """What twistd itself was asked for; a .tac file is told nothing, and is run by C{-n}."""
    return getattr(options, "parent", None) or {"nodaemon": True}


def log_stream(options: Mapping[str, object]) -> IO[str] | None:
    """
    Where twistd was asked to log to, as a stream; None: leave it to twistd.

    Without C{--logfile} that is stdout in the foreground, else C{twistd.log}
    (C{twistd --help}).
    """
    wanted = asked(options)
    if wanted.get("syslog") or wanted.get("logger"):
        return None
    name = wanted.get("logfile")
    foreground = wanted.get("nodaemon")
    if name == "-" and not foreground:
        return None  # twistd refuses that, with a line of its own
    if name == "-" or (not name and foreground):
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A name in another script must not cost the record where stdout is ASCII.
            sys.stdout.reconfigure(errors="backslashreplace")
        return sys.stdout
    file: IO[str] = LogFile.fromFullPath(str(name or "twistd.log"))  # type: ignore[no-untyped-call]
    return file


def tell(line: str) -> None:
    """A line to the person who started us; twistd takes sys.stderr for its log."""
    stream = sys.__stderr__
    if stream is not None:
        stream.write(escaped(line) + "\n")
        stream.flush()


def root_of(options: Mapping[str, object], log: Log, name: str) -> Root:
    """
    The root for what twistd was asked for.

    @param options: of our part of the command line
    @param name: what a start that is refused is said of
    """
    return Root(log, log_stream(options), bool(asked(options)["nodaemon"]), name)
