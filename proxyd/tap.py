"""
C{twistd proxyd}: its options, and the service they ask for.

The only module that names the process's reactor, its environment and its
standard streams. Whatever keeps the daemon from starting is told in one line
a problem on stderr, and by the exit code: 2 for wrong usage, else 1.
"""

from __future__ import annotations

import os
from typing import NoReturn

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from proxyd import __version__
from proxyd.config.load import Flags, load_config
from proxyd.config.model import Config
from proxyd.config.sections import LOG_LEVELS
from proxyd.errors import ConfigError, StartError
from proxyd.services.root import root_of, tell


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
            tell(f"proxyd: {error}; try twistd proxyd --help")
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
        root = root_of(options, config.log, "proxyd")
        daemon = build(config, reactor, found=found, reload=lambda: load()[0])
        daemon.setServiceParent(root)  # type: ignore[no-untyped-call]
    except ConfigError as error:
        for problem in error.problems:
            tell(str(problem))
        raise SystemExit(1) from None
    except StartError as error:
        tell(f"proxyd: {error}")
        raise SystemExit(1) from None
    return root
