"""
C{twistd proxyd-agent}: its options, and the agent they ask for.

Beside L{proxyd.tap} the only module that names the process's reactor and
environment. It needs the server's URL and a token, and no configuration file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, succeed
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from proxyd import __version__
from proxyd.app.agent import make_agent
from proxyd.config.model import Log
from proxyd.config.sections import LOG_LEVELS
from proxyd.errors import StartError
from proxyd.net.clock import keep_steady
from proxyd.net.memory import keep_freed_memory
from proxyd.services.notify import Notify
from proxyd.services.ordered import OrderedService
from proxyd.services.root import root_of, tell
from proxyd.services.signals import Signals

TOKEN = "PROXYD_AGENT_TOKEN"
"""The variable that may hold the token."""


class Options(UsageOptions):
    """What can be said on the command line behind C{twistd proxyd-agent}."""

    synopsis = "--server URL --token-file FILE [options]"
    longdesc = (
        "The agent on a machine in a private network: it dials out to a proxyd, which then"
        " reaches hosts through it. The token comes from --token-file or PROXYD_AGENT_TOKEN;"
        " `proxyctl agents add` on the server makes it."
    )
    optParameters = [
        ["server", "s", None, "wss://HOST:PORT/agent"],
        ["id", None, "", "Who this agent is; absent: who the token says"],
        ["token-file", None, None, "The file with the token"],
        ["ca", None, None, "A PEM file of CAs that sign the server's certificate"],
        ["pin", None, None, "sha256:HEX of the server's certificate, instead of a CA"],
        ["log-level", None, "info", "The least level that is logged: " + ", ".join(LOG_LEVELS)],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["allow"] = []

    def opt_allow(self, pattern: str) -> None:
        """HOST:PORT, glob or CIDR that this agent dials; may be said several times."""
        self["allow"].append(pattern)

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"proxyd-agent {__version__}")  # noqa: T201 (what was asked for)
        raise SystemExit(0)

    def parseArgs(self, *args: str) -> None:
        """There are only options."""
        if args:
            raise UsageError(f"unexpected argument {args[0]!r}")

    def postOptions(self) -> None:
        """
        Refuse what can't be right.

        @raise UsageError: something is missing or contradicts
        """
        if not self["server"]:
            raise UsageError("--server wss://HOST:PORT/agent is missing")
        if self["ca"] and self["pin"]:
            raise UsageError("--ca and --pin contradict each other")
        if self["log-level"] not in LOG_LEVELS:
            raise UsageError(
                f"--log-level {self['log-level']!r} is none of {', '.join(LOG_LEVELS)}"
            )

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        Take the arguments.

        @raise SystemExit: 2, after one line on stderr
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except UsageError as error:
            tell(f"proxyd-agent: {error}; try twistd proxyd-agent --help")
            raise SystemExit(2) from None


def makeService(options: Options) -> IService:
    """
    The agent as twistd runs it.

    @raise SystemExit: 1, after a line on stderr
    """
    from twisted.internet import reactor

    try:
        agent = agent_service(options, reactor, os.environ)
        root = root_of(options, Log(level=options["log-level"]), "proxyd-agent")
        agent.setServiceParent(root)  # type: ignore[no-untyped-call]
    except StartError as error:
        tell(f"proxyd-agent: {error}")
        raise SystemExit(1) from None
    return root


def agent_service(
    options: Mapping[str, Any], reactor: Any, environment: Mapping[str, str]
) -> Service:
    """
    The agent and what it stands on, not started.

    @raise StartError: the token, a certificate or a pattern can't be used
    """
    keep_steady(reactor)
    keep_freed_memory()
    service = OrderedService()  # type: ignore[no-untyped-call]
    agent = make_agent(
        reactor,
        options["server"],
        _token(options, environment),
        options["allow"],
        ca=options["ca"],
        pin=options["pin"],
        client_id=options["id"],
        environment=environment,
    )
    notify = Notify(reactor, environment)

    def drained() -> Deferred[object]:
        notify.stopping()
        return succeed(None)

    def reloaded() -> Deferred[object]:
        return succeed(None)

    for part in (agent, notify, Signals(reactor, drained, reloaded)):
        part.setServiceParent(service)  # type: ignore[no-untyped-call]
    reactor.callWhenRunning(notify.ready, "dialling out")
    return service


def _token(options: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    path = options["token-file"]
    token = environment.get(TOKEN, "")
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                token = file.read()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise StartError(f"token file {path}: {reason}") from None
    token = token.strip()
    if not token:
        raise StartError(f"no token: --token-file FILE, or the variable {TOKEN}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise StartError("the token is none: `proxyctl agents add` on the server makes one")
    return token
