"""
The routes: rules as values, and what they decide.

Pure: nothing is looked up or opened here. A name is judged as a name, and by
the addresses that whoever asks says it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from proxyd.rules.hosts import (
    DELICATE,
    Address,
    Host,
    delicate,
    delicate_name,
    embedded,
    plain,
)
from proxyd.rules.patterns import Pattern, Ports, both, contains, glob, within

DIRECT = "direct"
"""The name of the way without anything between."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How much of something one user, or one route, may have.

    @param connections: open at a time; None: any number
    @param bandwidth: bytes a second in each direction, all connections
        together; None: as fast as it goes
    """

    connections: int | None = None
    bandwidth: int | None = None


NO_LIMITS = Limits()
"""As much as there is."""


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One line of C{routes}.

    @param patterns: one of them must match
    @param way: the name of an upstream, or L{DIRECT}; None: denied
    @param ports: none: every port
    @param users: globs, one of which must match; none: everybody
    @param number: its place in the file, from 1
    """

    patterns: tuple[Pattern, ...]
    way: str | None
    ports: Ports = ()
    users: tuple[str, ...] = ()
    number: int = 0
    limits: Limits = NO_LIMITS

    def __str__(self) -> str:
        return f"route {self.number} ({', '.join(one.text for one in self.patterns)})"

    def concerns(self, port: int, user: str) -> bool:
        """Whether it is for this port and this user, whatever the host is."""
        return self.is_for(user) and within(port, self.ports)

    def is_for(self, user: str) -> bool:
        """Whether it is for this user."""
        return not self.users or any(glob(one).fullmatch(user) for one in self.users)

    def matching(self, host: Host, port: int, addresses: Iterable[Address]) -> Pattern | None:
        """The pattern that takes a host by its name or by one of these addresses."""
        for one in self.patterns:
            if not within(port, one.ports):
                continue
            if (host.name and one.takes_name(host.name)) or any(map(one.takes, addresses)):
                return one
            # What is denied is denied in every wrapping.
            if self.way is None and any(
                one.takes(inner) for inner in map(embedded, addresses) if inner is not None
            ):
                return one
        return None

    def covers(self, later: Rule) -> bool:
        """Whether a later rule can't match, because this one takes all it would."""
        if self.users and self.users != later.users:
            return False
        for theirs in later.patterns:
            ports = both(theirs.ports, later.ports)
            if not any(
                own.covers(theirs) and contains(both(own.ports, self.ports), ports)
                for own in self.patterns
            ):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What the rules say about a target.

    @param way: the name of an upstream, or L{DIRECT}; None: denied
    @param rule: which rule said so; None: the default, or a denial of our own
    @param said: why, where no rule says it
    @param pattern: what of the rule matched
    """

    way: str | None
    rule: Rule | None
    said: str = ""
    pattern: Pattern | None = field(default=None, compare=False)

    @property
    def why(self) -> str:
        """One clause that tells it to a person."""
        if self.rule is None:
            return self.said
        return f"{self.rule} {'denies it' if self.way is None else 'matches'}"


class Rules:
    """
    The routes of a configuration, first match first.

    @param default: the way of what no rule matches; None: denied
    @param own: this machine's addresses, which are as delicate as loopback
    @param guarded: whether what is delicate is denied unless a route names it
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        default: str | None,
        own: Iterable[Address] = (),
        *,
        guarded: bool = True,
    ) -> None:
        self.rules = tuple(rules)
        self.default = default
        self.own = frozenset(own)
        self.guarded = guarded

    def decide(
        self, host: Host, port: int, user: str, addresses: Sequence[Address] = ()
    ) -> Decision:
        """
        Which way a target goes.

        @param addresses: what a name stands for here, as far as it is known;
            a rule with a CIDR block matches if one of them is in it
        """
        decision = self._matched(host, port, user, addresses)
        if decision.way is None or host.address is None:
            kind = delicate_name(host.name) if decision.way is not None and self.guarded else ""
            found = decision.pattern
            if kind and not _names(found, host) and not self._named(found):
                return Decision(None, None, f"{host} is {kind}, which no route names")
            return decision
        return self._guarded(decision, host.address, host)

    def pinned(
        self, decision: Decision, host: Host, port: int, user: str, addresses: Sequence[Address]
    ) -> tuple[list[Address], str]:
        """
        Of a name's addresses those that may be dialled the way that was decided,
        each judged by itself; and, for none, why.
        """
        found, why = [], "it has no address"
        for address in addresses:
            judged = self._matched(host, port, user, (plain(address),))
            if judged.way is not None:
                judged = self._guarded(judged, plain(address), host)
            if judged.way == decision.way:
                found.append(address)
            else:
                why = f"{address}: {judged.why}"
        return found, why

    def by_address(self, host: Host, port: int, user: str) -> bool:
        """Whether a name's addresses can matter to L{decide}."""
        if host.address is not None:
            return False
        for rule in self.rules:
            if not rule.concerns(port, user):
                continue
            if rule.matching(host, port, ()) is not None:
                return False
            if any(one.network is not None for one in rule.patterns):
                return True
        return False

    def _matched(self, host: Host, port: int, user: str, addresses: Sequence[Address]) -> Decision:
        seen = [plain(one) for one in addresses] if host.address is None else [host.address]
        for rule in self.rules:
            if rule.concerns(port, user):
                found = rule.matching(host, port, seen)
                if found is not None:
                    return Decision(rule.way, rule, "", found)
        if self.default is None:
            return Decision(None, None, "no route matches, and the default is to deny")
        return Decision(self.default, None, "no route matches: the default")

    def _guarded(self, decision: Decision, address: Address, host: Host) -> Decision:
        """The same decision, unless the address is delicate and no route names it."""
        kind = self._delicate(address) if self.guarded else ""
        if not kind or _names(decision.pattern, host) or self._named(decision.pattern):
            return decision
        return Decision(None, None, f"{address} is {kind}, which no route names")

    def _named(self, matched: Pattern | None) -> bool:
        """Whether a pattern is as narrow as a delicate range, and so names what is in it."""
        network = None if matched is None else matched.network
        if network is None:
            return False
        if network.num_addresses == 1 and network.network_address in self.own:
            return True
        return any(
            network.version == block.version and network.subnet_of(block)  # type: ignore[arg-type]  # of one version
            for block, _ in DELICATE
        )

    def _delicate(self, address: Address) -> str:
        kind = delicate(address)
        if not kind and not self.own.isdisjoint((address, embedded(address))):
            return "an address of this machine"
        return kind


def _names(matched: Pattern | None, host: Host) -> bool:
    """Whether a pattern is the very name of a host that is delicate by its name."""
    return (
        matched is not None
        and matched.network is None
        and bool(delicate_name(host.name))
        and (matched.name == host.name or bool(delicate_name(matched.name.removeprefix("*."))))
    )
