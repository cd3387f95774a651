"""
How long a small request takes by SSH in a session, when the relay is far away.

C{PROXYD_SOAK=1} has a hundred requests at 50 ms there and back. The short form has a longer
line, on which what a busy machine adds is small beside what one round trip too many would.
"""

from __future__ import annotations

import sys
from socket import AF_INET
from statistics import median

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IReactorSocket, IReactorTime
from twisted.internet.protocol import Factory

from tests.ssh.scene import Echo
from tests.ssm.test_way import SshOverSsmCase
from tests.support.bad_line import BadLine
from tests.support.seeds import SOAK
from tests.support.streams import Party, until

DELAY, REQUESTS = (0.025, 100) if SOAK else (0.15, 15)
MOST = 1.2
"""Round trips that half of the requests may take."""

REQUEST = b"x" * 100


class Asker(Party):
    """Asks, and takes the time of the answer."""

    def __init__(self) -> None:
        super().__init__()
        self._answered: Deferred[None] = Deferred()

    async def ask(self) -> float:
        """Seconds from a request to the last byte of its answer."""
        clock = IReactorTime(reactor)
        self._answered = Deferred()
        began = clock.seconds()
        self.stream.write(REQUEST)
        await self._answered
        return clock.seconds() - began

    def dataReceived(self, data: bytes) -> None:
        """An answer, or a part of one."""
        super().dataReceived(data)
        if self.received % len(REQUEST) == 0:
            self._answered.callback(None)


class LatencyTests(SshOverSsmCase):
    """The relay is behind a line that takes its time; all else is here."""

    async def test_half_of_them(self) -> None:
        """One round trip is enough: nothing waits for an acknowledgement, or for more bytes."""
        line = BadLine(DELAY, 0.0, 0)
        self.enterContext(line)
        peer = self.peer(listener=line.listener(line.there))
        near, plain = Asker(), Asker()
        upstream = self.over(peer)
        await self.through(upstream, await self.target(), near)
        beside = TCP4ClientEndpoint(reactor, line.there, self.echo(line))  # type: ignore[no-untyped-call]
        await beside.connect(Factory.forProtocol(lambda: plain))  # type: ignore[arg-type]
        ours, theirs = [], []
        for _ in range(REQUESTS):
            theirs.append(await plain.ask())
            ours.append(await near.ask())
        trip, took = median(theirs), median(ours)
        sys.stderr.write(
            f"\nSSH over SSM: {REQUESTS} requests, p50 {took * 1000:.1f} ms, "
            f"most {max(ours) * 1000:.1f}; a plain TCP connection on the same line: "
            f"p50 {trip * 1000:.1f}, most {max(theirs) * 1000:.1f}\n"
        )
        self.assertLess(took, MOST * trip)
        near.stream.loseConnection()
        plain.stream.loseConnection()
        await until(lambda: near.lost and plain.lost, "the ends")
        await upstream.stopService()
        await until(
            lambda: "TerminateSession" in peer.api.asked and not peer.sockets,
            "the end of the session, at the far end of the line",
        )

    def echo(self, line: BadLine) -> int:
        """An echo at the far end of the line; its port."""
        listener = line.listener(line.there)
        listener.setblocking(False)
        factory = Factory.forProtocol(Echo)
        port = IReactorSocket(reactor).adoptStreamPort(listener.fileno(), AF_INET, factory)
        listener.close()
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number
