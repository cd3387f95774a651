"""
An agent as a service of whatever program: what C{twistd proxyd-agent} runs, without its
command line, signals and logs.
"""

from __future__ import annotations

import random  # noqa: TID251 (for jitter)
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.application.service import Service

from proxyd.agents.agent import Agent
from proxyd.agents.allow import AllowList
from proxyd.agents.tls import Creator, by_authorities, by_pin
from proxyd.config.times import LONGEST_DIAL
from proxyd.dial.direct import DirectDialer
from proxyd.errors import StartError
from proxyd.net.resolver import Resolver
from proxyd.rules.patterns import BadPattern
from proxyd.services.ordered import OrderedService


def make_agent(
    reactor: Any,
    server: str,
    token: str,
    allow: Iterable[str] = (),
    *,
    ca: str | None = None,
    pin: str | None = None,
    client_id: str = "",
    environment: Mapping[str, str] | None = None,
) -> Service:
    """
    An agent that dials out to a proxyd, again and again, from C{startService} to C{stopService}.

    @param server: C{wss://HOST:PORT/agent}; C{ws} where it has no TLS
    @param token: what C{proxyctl agents add} gave
    @param allow: what it dials: C{HOST:PORT}, globs, CIDR blocks; nothing: anything but
        link-local and metadata addresses
    @param ca: a PEM file of CAs that sign the server's certificate; None: the system's
    @param pin: C{sha256:HEX} of that certificate, instead
    @param client_id: who it is; empty: who the token says
    @param environment: where an HTTP proxy may be named; None: it dials straight
    @raise StartError: the URL, a pattern, the CAs or the pin can't be used
    """
    service = OrderedService()  # type: ignore[no-untyped-call]
    resolver = Resolver(reactor)
    try:
        patterns = AllowList(allow)
    except BadPattern as error:
        raise StartError(f"allow: {error}") from None
    agent = Agent(
        reactor,
        server,
        token,
        DirectDialer(reactor, resolver, LONGEST_DIAL),
        resolver,
        patterns,
        random.random,
        environment or {},
        _tls(server, ca, pin),
        client_id,
    )
    for part in (resolver, agent):
        part.setServiceParent(service)  # type: ignore[no-untyped-call]
    return service


def _tls(server: str, ca: str | None, pin: str | None) -> Creator | None:
    if not server.startswith("wss:"):
        return None
    return by_pin(pin) if pin else by_authorities(ca)
