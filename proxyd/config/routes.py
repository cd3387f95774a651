"""
The section C{routes} and the key C{default}: which target goes which way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from proxyd.config import values
from proxyd.config.section import Section
from proxyd.config.upstreams import ALONE, DENY, THE_ONE, check_known
from proxyd.config.values import BadValue
from proxyd.rules.patterns import BadPattern, pattern, port_range
from proxyd.rules.routes import DIRECT, Limits, Rule

MOST_CONNECTIONS = 1_000_000

_T = TypeVar("_T")


def read_routes(root: Section, upstreams: Collection[str]) -> tuple[Rule, ...]:
    """
    The routes of a file, in its order.

    @param upstreams: the names there are
    """
    found: list[tuple[Section, Rule]] = []
    for number, section in enumerate(root.sections("routes") or (), 1):
        rule = _read_rule(section, number, upstreams)
        section.close()
        if rule is None:
            continue
        for _, earlier in found:
            if earlier.covers(rule):
                section.warn("match", f"can never match: {earlier} takes all of it")
                break
        found.append((section, rule))
    return tuple(rule for _, rule in found)


def read_default(root: Section, upstreams: Collection[str]) -> str | None:
    """The key C{default}: the way of what no route takes; None: it is denied."""
    name = root.text("default")
    if name is None:
        alone = not root.has("upstreams") and any(root.has(key) for key in ALONE)
        return THE_ONE if alone else DIRECT
    if name == DENY:
        return None
    if name != DIRECT:
        check_known(root, "default", name, {*upstreams, DIRECT, DENY})
    return name


def read_limits(section: Section) -> Limits:
    """The keys C{max_connections} and C{bandwidth} of a user or a route."""
    most = None
    if section.has("max_connections"):
        most = section.count("max_connections", 1, 1, MOST_CONNECTIONS)
    return Limits(most, section.size("bandwidth"))


def _read_rule(section: Section, number: int, upstreams: Collection[str]) -> Rule | None:
    patterns = section.each("match", _parsed(pattern))
    ports = section.each("ports", _parsed(port_range), numbers=True)
    users = section.each("users", str)
    limits = read_limits(section)
    way = _read_way(section, upstreams)
    if not section.has("match"):
        section.wrong("", "has no match: match: 10.0.0.0/8, *.internal, HOST or '*'")
    for key, given in (("match", patterns), ("ports", ports), ("users", users)):
        if given == ():
            section.wrong(key, "an empty list matches nothing: leave it out, or the route")
    if way is None and (section.has("max_connections") or section.has("bandwidth")):
        section.wrong("", "a route that denies needs no limits")
    for one in patterns or ():
        if one.masked:
            shown = values.shown(one.text)
            section.warn("match", f"{shown} has host bits: it means {one.network}")
    if not patterns:
        return None
    return Rule(patterns, way, ports or (), users or (), number, limits)


def _read_way(section: Section, upstreams: Collection[str]) -> str | None:
    """The way of a route; None: denied."""
    deny, name = section.flag("deny"), section.text("upstream")
    if section.has("deny") == section.has("upstream"):
        section.wrong("", "says either upstream: NAME or deny: true")
    elif section.has("deny"):
        if deny is False:
            section.wrong("deny", "is true or absent")
    elif name is not None and name != DIRECT:
        check_known(section, "upstream", name, {*upstreams, DIRECT})
    return name


def _parsed(parse: Callable[[str], _T]) -> Callable[[str], _T]:
    """The same, with its complaint as a configuration has it."""

    def read(text: str) -> _T:
        try:
            return parse(text)
        except BadPattern as error:
            raise BadValue(f"{values.shown(text)} {error}") from None

    return read
