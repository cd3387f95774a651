"""
The servers of a configuration, tried without a daemon: for C{proxyctl check --live}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from proxyd.config.model import Config
from proxyd.config.times import LINGER, LONGEST_DIAL
from proxyd.dial.direct import DirectDialer
from proxyd.dial.router import Router
from proxyd.dial.servers import ServerDialer
from proxyd.errors import DialError, DialFailure, StartError
from proxyd.net.link import Link
from proxyd.net.resolver import Resolver
from proxyd.net.threads import Threads
from proxyd.postgres.probe import Seen, look_at
from proxyd.postgres.server import Server
from proxyd.rules.routes import Rules
from proxyd.target import Principal, Target

_NOT_TRIED = (
    "not tried, as it goes by the upstream {}, which only a daemon opens: proxyctl doctor asks "
    "one that runs"
)


@implementer(IStreamClientEndpoint)
class _Closed:
    """
    An upstream, and any endpoint by it, that leads nowhere.

    @ivar asked: somebody wanted to go that way
    """

    resolves = "far"
    carries_udp = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = False

    def endpoint_for(self, target: Target, principal: Principal) -> IStreamClientEndpoint:
        """No way to anything."""
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """It fails."""
        self.asked = True
        return fail(DialError(DialFailure.BROKEN, f"upstream {self.name} is not open"))


async def look_around(reactor: Any, config: Config) -> list[Seen]:
    """
    Look at the servers of all connections, one after the other.

    They go the ways that the daemon would go; but no upstream is opened here.
    """
    link = Link(reactor, reactor, LINGER)
    resolver = Resolver(reactor)
    direct = DirectDialer(reactor, resolver, LONGEST_DIAL)
    ways: Any = {name: _Closed(name) for name in config.upstreams}
    router = Router(Rules(config.routes, config.default), ways, direct, resolver, reactor)
    resolver.startService()
    threads = Threads(reactor, "aws", 1)
    threads.startService()  # type: ignore[no-untyped-call]
    link.start()
    found: list[Seen] = []
    try:
        for connection in config.connections.values():
            dialer = ServerDialer(router, direct, connection.via)
            try:
                server = Server(connection, dialer, link, reactor)
            except StartError as error:
                found.append(Seen(connection.name, True, str(error)))
                continue
            source = None
            if connection.aws_iam_auth is not None or connection.aws_secret is not None:
                # Costs a third of a second to import.
                from proxyd.dial.aws.sources import AwsSources

                source = AwsSources(lambda _: threads, reactor).source_of(connection)
            seen = await Deferred.fromCoroutine(look_at(server, source))
            asked = [name for name, way in ways.items() if way.asked]
            for name in asked:
                ways[name].asked = False
            found += [Seen(connection.name, False, _NOT_TRIED.format(asked[0]))] if asked else seen
    finally:
        threads.stopService()
        link.stop()
        resolver.stopService()
    return found
