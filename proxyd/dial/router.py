"""
Which way a target goes: the rules, what a name stands for here, and the ways.

What is judged is what is dialled: on the direct way, and on a way that
resolves here, the addresses that the rules have seen go into the endpoint, and
no name is looked up a second time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.config.times import NAME_GLANCE
from proxyd.dial.direct import DirectDialer
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IRouter, IUpstream, Passage
from proxyd.net.own_addresses import OwnAddresses
from proxyd.net.resolver import Address, Resolver
from proxyd.rules.hosts import BadHost, Host, host_of, plain
from proxyd.rules.routes import DIRECT, Decision, Rules
from proxyd.target import Principal, Target

MOST_KNOWN = 4096
"""How many passages are remembered at most."""

FAMILIES = {4: AF_INET, 6: AF_INET6}

_TRY_NEXT = (
    DialFailure.REFUSED,
    DialFailure.UNREACHABLE,
    DialFailure.NETWORK,
    DialFailure.TIMEOUT,
)


def _no_instance() -> str:
    return ""


@implementer(IRouter)
class Router:
    """
    Finds the way of a target, by the routes in force.

    @ivar rules: the routes in force; a reload puts others here
    @ivar upstreams: the ways beside the direct one, by name
    """

    def __init__(
        self,
        rules: Rules,
        upstreams: Mapping[str, IUpstream],
        direct: DirectDialer,
        resolver: Resolver,
        clock: IReactorTime,
    ) -> None:
        self.rules = rules
        self.upstreams = upstreams
        self._direct = direct
        self._resolver = resolver
        self._clock = clock
        self._own = OwnAddresses(clock)
        self._known: dict[tuple[str, int, str], Passage] = {}
        self._known_by: tuple[Rules, object] = (rules, None)

    def endpoint_for(self, target: Target, principal: Principal) -> IStreamClientEndpoint:
        """The way that the rules say. See L{IRouter}."""
        return _Routed(self, target, principal)

    def goes_direct(self, user: str) -> bool:
        """See L{IRouter}."""
        rules = self.rules
        return rules.default == DIRECT or any(
            rule.way == DIRECT and rule.is_for(user) for rule in rules.rules
        )

    def pac_rules(self) -> Rules:
        """See L{IRouter}."""
        return self.rules

    def known(self, target: Target, principal: Principal) -> Passage | None:
        """
        See L{IRouter}.

        Only what goes to an address by the direct way is remembered: that hangs
        on nothing but the routes, the user and this machine's own addresses.
        """
        rules, own = self._known_by
        if rules is not self.rules or own is not self._own.now():
            self._known.clear()
            return None
        return self._known.get((target.host, target.port, principal.user))

    def _remember(self, target: Target, principal: Principal, passage: Passage) -> Passage:
        """It may be had again without asking, as long as the routes and our addresses are these."""
        by = (self.rules, self.rules.own)
        if by[0] is not self._known_by[0] or by[1] is not self._known_by[1]:
            self._known.clear()
            self._known_by = by
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[target.host, target.port, principal.user] = passage
        return passage

    def find(self, target: Target, principal: Principal) -> Deferred[Passage]:
        """See L{IRouter}."""
        try:
            host = host_of(target.host)
            if not target.port:
                raise DialError(DialFailure.REFUSED, f"{target}: there is no port 0")
            rules = self.rules
            rules.own = self._own.now()
            if host.address is None and rules.by_address(host, target.port, principal.user):
                looking = self.look_up(host, target.port)
                return looking.addCallback(partial(self._judged, rules, host, target, principal))
            return self._judged(rules, host, target, principal, None)
        except BadHost as error:
            return fail(DialError(DialFailure.NAME, f"{target.host!r} {error}"))
        except DialError as error:
            return fail(error)

    def denies(self, target: Target) -> str | None:
        """
        Why a target is not dialled, whatever its name stands for; None: it may be.

        A name's addresses are judged when it is dialled.
        """
        try:
            host = host_of(target.host)
        except BadHost as error:
            return f"it {error}"
        rules = self.rules
        rules.own = self._own.now()
        decision = rules.decide(host, target.port, "")
        return decision.why if decision.way is None else None

    def look_up(self, host: Host, port: int) -> Deferred[Sequence[Address] | None]:
        """What a name stands for here; None: nobody knows. Never fails, but when cancelled."""

        def unknown(failure: Failure) -> None:
            if not isinstance(failure.value, DialError):
                failure.raiseException()

        looking: Deferred[Sequence[Address] | None] = self._resolver.resolve(host.name, port)  # type: ignore[assignment]
        looking.addTimeout(NAME_GLANCE, self._clock, lambda *_: None)
        return looking.addErrback(unknown)

    def _judged(
        self,
        rules: Rules,
        host: Host,
        target: Target,
        principal: Principal,
        addresses: Sequence[Address] | None,
    ) -> Deferred[Passage]:
        """The passage, once it is known what may be known of a name."""
        port, user = target.port, principal.user
        decision = rules.decide(host, port, user, _plain(addresses or ()))
        if decision.way is None:
            raise DialError(DialFailure.DENIED, f"{target}: {decision.why}")
        upstream = None
        if decision.way != DIRECT:
            upstream = self.upstreams.get(decision.way)
            if upstream is None:
                raise DialError(DialFailure.BROKEN, f"{target}: no upstream {decision.way}")
            if host.address is not None or upstream.resolves != "local":
                return succeed(self._through(upstream, decision, host, port, principal, ()))
        elif host.address is not None:
            own = Address(FAMILIES[host.address.version], str(host.address), port)
            passage = self._directly(decision, target, (own,))
            return succeed(self._remember(target, principal, passage))
        pin = partial(self._pinned, rules, decision, upstream, host, target, principal)
        if addresses:
            return succeed(pin(addresses))
        return self._resolver.resolve(host.name, port).addCallback(pin)

    def _pinned(
        self,
        rules: Rules,
        decision: Decision,
        upstream: IUpstream | None,
        host: Host,
        target: Target,
        principal: Principal,
        addresses: Sequence[Address],
    ) -> Passage:
        """The passage to those of a name's addresses that may be dialled."""
        by_value = dict(zip(_plain(addresses), addresses, strict=True))
        allowed, why = rules.pinned(decision, host, target.port, principal.user, list(by_value))
        if not allowed:
            raise DialError(DialFailure.DENIED, f"{target}: {why}")
        found = [by_value[one] for one in allowed]
        if upstream is None:
            return self._directly(decision, target, found)
        return self._through(upstream, decision, host, target.port, principal, found)

    def _directly(
        self, decision: Decision, target: Target, addresses: Sequence[Address]
    ) -> Passage:
        endpoint = self._direct.endpoint_among(target, addresses)
        hosts = tuple(one.host for one in addresses)
        return Passage(DIRECT, decision.rule, target, hosts, endpoint, _no_instance)

    def _through(
        self,
        upstream: IUpstream,
        decision: Decision,
        host: Host,
        port: int,
        principal: Principal,
        addresses: Sequence[Address],
    ) -> Passage:
        """By an upstream: to the addresses that were judged here, or to the name itself."""
        target = Target(str(host), port)
        hosts = tuple(one.host for one in addresses)
        ways = [
            upstream.endpoint_for(Target(one, port), principal) for one in hosts or (target.host,)
        ]
        endpoint = ways[0] if len(ways) == 1 else _InTurn(ways)
        assert decision.way is not None
        return Passage(
            decision.way,
            decision.rule,
            target,
            hosts,
            endpoint,
            lambda: upstream.status().in_use or "",
        )


def _plain(addresses: Sequence[Address]) -> list[IPv4Address | IPv6Address]:
    """The addresses as the rules take them."""
    return [plain(ip_address(one.host)) for one in addresses]


@implementer(IStreamClientEndpoint)
class _Routed:
    """The way to one target, found when it is gone."""

    def __init__(self, router: Router, target: Target, principal: Principal) -> None:
        self._router = router
        self._target = target
        self._principal = principal

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IRouter.endpoint_for}."""
        finding = self._router.find(self._target, self._principal)
        return finding.addCallback(lambda found: found.endpoint.connect(protocolFactory))


@implementer(IStreamClientEndpoint)
class _InTurn:
    """Several endpoints, of which the next is tried when one's target does not answer."""

    def __init__(self, endpoints: Sequence[IStreamClientEndpoint]) -> None:
        self._endpoints = endpoints

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IRouter.endpoint_for}."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        for endpoint in self._endpoints[:-1]:
            try:
                return await endpoint.connect(factory)
            except DialError as error:
                if error.failure not in _TRY_NEXT:
                    raise
        return await self._endpoints[-1].connect(factory)
