"""
The straight way out: TCP and UNIX sockets of this machine.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorCore,
    IReactorFromThreads,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
    IStreamClientEndpoint,
    ISystemHandle,
    ITCPTransport,
)
from zope.interface import implementer

from proxyd.dial import sockets
from proxyd.dial.failures import translated
from proxyd.dial.race import Race
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IDialer, ISocketEndpoint
from proxyd.net.link import Link
from proxyd.net.resolver import Address, Resolver
from proxyd.target import Principal, Target

KEEPALIVE = (
    # A peer that is gone without a word is noticed after two minutes, not two hours.
    (socket.TCP_KEEPIDLE, 60),
    (socket.TCP_KEEPINTVL, 15),
    (socket.TCP_KEEPCNT, 4),
)

UNIX_PATH = 107
"""The most bytes that the path of a UNIX socket may have (unix(7), sun_path)."""


class IReactor(IReactorCore, IReactorFromThreads, IReactorTCP, IReactorTime, IReactorUNIX):
    """What of the reactor dialling needs."""


@implementer(IDialer)
class DirectDialer:
    """
    Dials from this machine, without any way between.

    @param reactor: opens sockets and measures time
    @param resolver: looks names up; it must be running
    @param timeout: seconds that one C{connect()} may take, its name look-up
        and all addresses together; whoever calls it may have fewer
    """

    def __init__(self, reactor: IReactor, resolver: Resolver, timeout: float) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._timeout = timeout

    def endpoint_for(self, target: Target, principal: Principal) -> IStreamClientEndpoint:
        """The way to a TCP or UNIX target; the same for everybody. See L{IDialer}."""
        kind = _Endpoint if target.is_unix else _TcpEndpoint
        return kind(self._reactor, self._resolver, target, self._timeout)

    def endpoint_among(self, target: Target, addresses: Sequence[Address]) -> IStreamClientEndpoint:
        """
        The way to one of the addresses that a target was found to have.

        Nothing is looked up again: what was judged is what is dialled.

        @param target: for the texts of errors
        @param addresses: at least one
        """
        return _TcpEndpoint(self._reactor, self._resolver, target, self._timeout, addresses)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """The way to one target."""

    def __init__(
        self,
        reactor: IReactor,
        resolver: Resolver,
        target: Target,
        timeout: float,
        addresses: Sequence[Address] | None = None,
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._target = target
        self._timeout = timeout
        self._addresses = addresses

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IDialer.endpoint_for} for what this promises."""

        def too_late(_: object, seconds: float) -> IProtocol:
            raise DialError(DialFailure.TIMEOUT, f"{self._target}: no answer in {seconds:g} s")

        dialling = Deferred.fromCoroutine(self._connect(protocolFactory))
        dialling.addTimeout(self._timeout, self._reactor, too_late)
        return dialling

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        target = self._target
        if target.is_unix:
            if len(os.fsencode(target.host)) > UNIX_PATH:
                # Twisted would only notice at the deadline.
                raise DialError(DialFailure.BROKEN, f"{target}: too long for a UNIX socket")
            endpoint: IStreamClientEndpoint = UNIXClientEndpoint(  # type: ignore[no-untyped-call]
                self._reactor, target.host, self._timeout
            )
            try:
                return await endpoint.connect(factory)
            except CancelledError:
                raise
            except Exception as problem:
                raise translated(problem, str(target)) from problem
        addresses = self._addresses
        if addresses is None:
            addresses = await self._resolver.resolve(target.host, target.port)
        try:
            protocol = await Race(self._reactor, addresses, partial(self._attempt, factory)).run()
        except DialError as problem:
            if str(target) in problem.detail:
                raise
            raise DialError(problem.failure, f"{target}: {problem.detail}") from problem
        tune(protocol)
        return protocol

    def _attempt(self, factory: IProtocolFactory, address: Address) -> Deferred[IProtocol]:
        of_family = TCP6ClientEndpoint if address.family == socket.AF_INET6 else TCP4ClientEndpoint
        endpoint = of_family(self._reactor, address.host, address.port, self._timeout)
        attempt: Deferred[IProtocol] = endpoint.connect(factory)
        return attempt


@implementer(ISocketEndpoint)
class _TcpEndpoint(_Endpoint):
    """The same to a TCP target, also for whoever needs no transport."""

    def connect_socket(self, link: Link) -> Deferred[socket.socket]:
        """See L{ISocketEndpoint}."""

        def race(addresses: Sequence[Address]) -> Deferred[socket.socket]:
            return Race(link.clock, addresses, partial(sockets.connect, link)).run()

        if self._addresses is not None:
            return race(self._addresses)
        return self._resolver.resolve(self._target.host, self._target.port).addCallback(race)


def tune(protocol: IProtocol) -> None:
    """Small messages go out at once, and a TCP peer that is gone is noticed."""
    transport = getattr(protocol, "transport", None)
    if not ITCPTransport.providedBy(transport):
        return
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    handle = transport.getHandle() if ISystemHandle.providedBy(transport) else None
    if isinstance(handle, socket.socket):
        for option, value in KEEPALIVE:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
