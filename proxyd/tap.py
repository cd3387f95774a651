"""
C{twistd proxyd}: its options, and the service they ask for.

The only module that names the process's reactor, its environment and its
standard streams. Whatever keeps the daemon from starting is told in one line
a problem on stderr, and by the exit code: 2 for wrong usage, else 1.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping
from typing import IO, NoReturn

from twisted.application.service import IService, IServiceCollection
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from proxyd import __version__
from proxyd.config.load import Flags, load_config
from proxyd.config.model import Config
from proxyd.config.sections import LOG_LEVELS
from proxyd.errors import ConfigError, StartError
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


class Options(UsageOptions):
    """What can be said on the command line behind C{twistd proxyd}."""

    synopsis = "[options]"
    longdesc = (
        "An access daemon: PostgreSQL with a pool behind it. Without --config it looks for"
        " ./proxyd.yaml, ./config.yaml (.yml, .toml), $XDG_CONFIG_HOME/proxyd/config.yaml,"
        " /etc/proxyd/proxyd.yaml."
    )
    optParameters = [
        ["config", "c", None, "The configuration file, YAML or TOML"],
        ["postgres-listen", None, None, "Where PostgreSQL clients connect: HOST:PORT, unix:PATH"],
        ["socks5-listen", None, None, "Where SOCKS5 clients connect: HOST:PORT, unix:PATH"],
        ["log-level", None, None, "The least level that is logged: " + ", ".join(LOG_LEVELS)],
    ]

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"proxyd {__version__}")  # noqa: T201 (what was asked for)
        raise SystemExit(0)

    def parseArgs(self, *args: str) -> None:
        """There are only options."""
        if args:
            raise UsageError(f"unexpected argument {args[0]!r}")

    def postOptions(self) -> None:
        """
        Refuse values that no configuration could make right.

        @raise UsageError: the level is none
        """
        level = self["log-level"]
        if level is not None and level not in LOG_LEVELS:
            raise UsageError(f"--log-level {level!r} is none of {', '.join(LOG_LEVELS)}")

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        Take the arguments.

        @raise SystemExit: 2, after one line on stderr; a C{UsageError} would
            make twistd print the whole help, and exit with 1
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except UsageError as error:
            _tell(f"proxyd: {error}; try twistd proxyd --help")
            raise SystemExit(2) from None

    @property
    def flags(self) -> Flags:
        """What the command line says over the file."""
        return Flags(
            postgres_listen=self["postgres-listen"],
            socks5_listen=self["socks5-listen"],
            log_level=self["log-level"],
        )


def makeService(options: Options) -> IService:
    """
    The daemon as twistd runs it.

    @raise SystemExit: 1, after a line on stderr for each problem of the
        configuration
    """
    from twisted.internet import reactor

    from proxyd.app.daemon import build
    from proxyd.net.clock import keep_steady

    directory = os.getcwd()

    def load() -> tuple[Config, str]:
        found = load_config(
            options["config"], options.flags, directory=directory, environment=os.environ
        )
        if found[0].later:
            raise ConfigError(found[0].later)
        return found

    try:
        config, found = load()
        keep_steady(reactor)
        root = _Root(config, _log_stream(options), foreground=bool(_asked(options)["nodaemon"]))
        daemon = build(config, reactor, found=found, reload=lambda: load()[0])
        daemon.setServiceParent(root)  # type: ignore[no-untyped-call]
    except ConfigError as error:
        for problem in error.problems:
            _tell(str(problem))
        raise SystemExit(1) from None
    except StartError as error:
        _tell(f"proxyd: {error}")
        raise SystemExit(1) from None
    return root


class _Root(OrderedService):
    """
    The daemon's place in twistd's application.

    Gives the application our log, from its first line on, and turns a start
    that is refused into one line and an exit code.

    @param config: for the log's level and format
    @param stream: where the log goes; None: to where twistd would send it
    @param foreground: somebody sees our stderr
    """

    def __init__(self, config: Config, stream: IO[str] | None, foreground: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._config = config
        self._stream = stream
        self._foreground = foreground

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Become part of the application, and its log."""
        if self._stream is not None and isinstance(parent, Componentized):
            ours = observer(self._config.log, self._stream)
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
            line = f"proxyd: {error}"
            if self._foreground:
                _tell(line)
            else:
                # stderr is closed by now; twistd gives whoever started it the first words.
                self._log.critical("not started: {reason}", reason=str(error))
            raise StartFailed(escaped(line)) from None


def _asked(options: Options) -> Mapping[str, object]:
    """What twistd itself was asked for; a .tac file is told nothing, and is run by C{-n}."""
    return options.parent or {"nodaemon": True}


def _log_stream(options: Options) -> IO[str] | None:
    """
    Where twistd was asked to log to, as a stream; None: leave it to twistd.

    Without C{--logfile} that is stdout in the foreground, else C{twistd.log}
    (C{twistd --help}).
    """
    asked = _asked(options)
    if asked.get("syslog") or asked.get("logger"):
        return None
    name = asked.get("logfile")
    foreground = asked.get("nodaemon")
    if name == "-" and not foreground:
        return None  # twistd refuses that, with a line of its own
    if name == "-" or (not name and foreground):
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A name in another script must not cost the record where stdout is ASCII.
            sys.stdout.reconfigure(errors="backslashreplace")
        return sys.stdout
    file: IO[str] = LogFile.fromFullPath(str(name or "twistd.log"))  # type: ignore[no-untyped-call]
    return file


def _tell(line: str) -> None:
    """A line to the person who started us; twistd takes sys.stderr for its log."""
    stream = sys.__stderr__
    if stream is not None:
        stream.write(escaped(line) + "\n")
        stream.flush()
