"""
The straight way out: TCP and UNIX sockets of this machine.

Of a name's addresses the next is tried when the one before has failed, or has
not answered for a quarter of a second; the first that connects is taken
(RFC 8305, "Happy Eyeballs", sections 4 and 5).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.interfaces import (
    IDelayedCall,
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
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.dial.failures import summed_up, translated
from proxyd.dial.sockets import SocketRace
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IDialer, ISocketEndpoint
from proxyd.net.link import Link
from proxyd.net.resolver import Address, Resolver
from proxyd.target import Principal, Target

STAGGER = 0.25
"""Seconds between the starts of two attempts (RFC 8305, section 5)."""

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
        race = _Race(self._reactor, factory, interleaved(addresses), self._timeout)
        try:
            protocol = await race.run()
        except DialError as problem:
            if str(target) in problem.detail:
                raise
            raise DialError(problem.failure, f"{target}: {problem.detail}") from problem
        tune(protocol)
        return protocol


@implementer(ISocketEndpoint)
class _TcpEndpoint(_Endpoint):
    """The same to a TCP target, also for whoever needs no transport."""

    def connect_socket(self, link: Link) -> Deferred[socket.socket]:
        """See L{ISocketEndpoint}."""
        if self._addresses is not None:
            return SocketRace(link, self._addresses, STAGGER).run()
        looking = self._resolver.resolve(self._target.host, self._target.port)
        return looking.addCallback(
            lambda found: SocketRace(link, interleaved(found), STAGGER).run()
        )


class _Race:
    """Attempts at several addresses, of which the first to connect wins."""

    def __init__(
        self,
        reactor: IReactor,
        factory: IProtocolFactory,
        addresses: Sequence[Address],
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._factory = factory
        self._addresses = list(addresses)
        self._timeout = timeout
        self._attempts: list[Deferred[IProtocol]] = []
        self._problems: list[DialError] = []
        self._next: IDelayedCall | None = None
        self._outcome: Deferred[IProtocol] = Deferred(lambda _: self._end())

    def run(self) -> Deferred[IProtocol]:
        """Begin. Fails with DialError when all have failed; cancelling ends all."""
        self._try_next()
        return self._outcome

    def _try_next(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        if not self._addresses:
            if not self._attempts:
                self._outcome.errback(summed_up(self._problems))
            return
        address = self._addresses.pop(0)
        if self._addresses:
            self._next = self._reactor.callLater(STAGGER, self._try_next)
        of_family = TCP6ClientEndpoint if address.family == socket.AF_INET6 else TCP4ClientEndpoint
        endpoint = of_family(self._reactor, address.host, address.port, self._timeout)
        attempt = endpoint.connect(self._factory)
        self._attempts.append(attempt)
        attempt.addCallbacks(
            self._won,
            self._lost,
            callbackArgs=(attempt,),
            errbackArgs=(attempt, Target(address.host, address.port)),
        )

    def _won(self, protocol: IProtocol, attempt: Deferred[IProtocol]) -> None:
        self._attempts.remove(attempt)
        self._end()
        self._outcome.callback(protocol)

    def _lost(self, failure: Failure, attempt: Deferred[IProtocol], target: Target) -> None:
        if attempt not in self._attempts:
            return  # the race is over: this is what became of our cancel
        self._attempts.remove(attempt)
        self._problems.append(translated(failure.value, str(target)))
        self._try_next()

    def _end(self) -> None:
        """Give up whatever still runs."""
        self._addresses.clear()
        if self._next is not None and self._next.active():
            self._next.cancel()
        running, self._attempts = self._attempts, []
        for attempt in running:
            attempt.cancel()


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """
    The addresses, the families taking turns (RFC 8305, section 4).

    So one family that goes nowhere costs one stagger and not all of them. The
    first address stays the first.
    """
    first = [address for address in addresses if address.family == addresses[0].family]
    other = [address for address in addresses if address.family != addresses[0].family]
    pairs = chain.from_iterable(zip_longest(first, other))
    return [address for address in pairs if address is not None]


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
