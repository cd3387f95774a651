"""
The servers of a configuration, tried without a daemon: for C{proxyctl check --live}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from proxyd.config.model import Connection
from proxyd.config.times import LINGER, LONGEST_DIAL
from proxyd.dial.direct import DirectDialer
from proxyd.errors import StartError
from proxyd.net.link import Link
from proxyd.net.resolver import Resolver
from proxyd.net.threads import Threads
from proxyd.postgres.probe import Seen, look_at
from proxyd.postgres.server import Server


async def look_around(reactor: Any, connections: Mapping[str, Connection]) -> list[Seen]:
    """Look at the servers of all connections, one after the other."""
    link = Link(reactor, reactor, LINGER)
    resolver = Resolver(reactor)
    dialer = DirectDialer(reactor, resolver, LONGEST_DIAL)
    resolver.startService()  # type: ignore[no-untyped-call]
    threads = Threads(reactor, "aws", 1)
    threads.startService()  # type: ignore[no-untyped-call]
    link.start()
    found: list[Seen] = []
    try:
        for connection in connections.values():
            try:
                server = Server(connection, dialer, link, reactor)
            except StartError as error:
                found.append(Seen(connection.name, True, str(error)))
                continue
            source = None
            if connection.aws_iam_auth is not None or connection.aws_secret is not None:
                # Costs a third of a second to import.
                from proxyd.dial.aws.sources import AwsSources

                source = AwsSources(threads, reactor).source_of(connection)
            found += await Deferred.fromCoroutine(look_at(server, source))
    finally:
        threads.stopService()
        link.stop()
        resolver.stopService()
    return found
