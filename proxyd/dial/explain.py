"""
Why a target goes the way it does: what the router would decide, in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from twisted.internet.defer import Deferred

from proxyd.dial.router import Router
from proxyd.errors import DialError
from proxyd.interfaces import Passage
from proxyd.net.resolver import Address
from proxyd.rules.hosts import BadHost, Host, host_of, plain
from proxyd.rules.routes import DIRECT
from proxyd.target import Principal, Target


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    What becomes of a target, and why.

    @param target: as it was asked for
    @param addresses: what its name stands for here; none: it is an address, or unknown here
    @param way: C{direct}, or the upstream; None: refused
    @param route: which route says so; empty: the default, or none
    @param dialled: the addresses that would be dialled; none: the far side
        looks the name up, or it is refused
    @param why: in one clause
    """

    target: str
    user: str
    addresses: tuple[str, ...]
    way: str | None
    route: str
    dialled: tuple[str, ...]
    why: str

    def lines(self) -> Sequence[str]:
        """The same for people."""
        whom = f" for {self.user}" if self.user else ""
        told = [f"{self.target}{whom}: {self.way or 'refused'}", f"  because: {self.why}"]
        if self.route:
            told.append(f"  route: {self.route}")
        if self.addresses:
            told.append(f"  known here as: {', '.join(self.addresses)}")
        if self.dialled:
            told.append(f"  dialled: {', '.join(self.dialled)}")
        return told


def explain(router: Router, target: Target, user: str) -> Deferred[Explanation]:
    """
    What the router would do, without dialling.

    Never fails, but when it is cancelled.
    """
    return Deferred.fromCoroutine(_explain(router, target, user))


async def _explain(router: Router, target: Target, user: str) -> Explanation:
    known: tuple[str, ...] = ()
    try:
        host = host_of(target.host)
    except BadHost as error:
        return Explanation(str(target), user, (), None, "", (), f"{target.host} {error}")
    if host.address is None:
        found = await router.look_up(host, target.port)
        known = _texts(found)
    try:
        passage = await router.find(target, Principal(user, ""))
    except DialError as error:
        decision = router.rules.decide(host, target.port, user, _values(known))
        route = "" if decision.rule is None else str(decision.rule)
        why = error.detail.removeprefix(f"{target}: ") or error.failure.value
        return Explanation(str(target), user, known, None, route, (), why)
    route = "" if passage.rule is None else str(passage.rule)
    why = _reason(router, passage, host)
    dialled = passage.addresses if passage.way == DIRECT or passage.addresses else ()
    return Explanation(str(target), user, known, passage.way, route, dialled, why)


def _reason(router: Router, passage: Passage, host: Host) -> str:
    """Why it goes by this way."""
    said = "no route matches: the default" if passage.rule is None else f"{passage.rule} matches"
    upstream = router.upstreams.get(passage.way)
    if upstream is None:
        return said
    if host.address is None and not passage.addresses:
        said += "; the name goes to the far side unresolved, and is looked up there"
    status = upstream.status()
    state = status.state + (f", by {status.in_use}" if status.in_use else "")
    failed = f" ({status.last_error})" if status.last_error and status.state != "up" else ""
    return f"{said}; {passage.way} is {state}{failed}"


def _texts(addresses: Sequence[Address] | None) -> tuple[str, ...]:
    return tuple(one.host for one in addresses or ())


def _values(texts: Sequence[str]) -> list[IPv4Address | IPv6Address]:
    return [plain(ip_address(text)) for text in texts]
