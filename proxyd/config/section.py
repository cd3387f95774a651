"""
One section of a configuration, read key by key.

A L{Section} gives each key as the value asked for. What is wrong with a key
is told to the report, and the default is given instead, so that reading goes
on to the next key; keys nobody asked for are told at the end.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from proxyd.config import values
from proxyd.config.document import Entry, Items, Node, Scalar, Table, described, joined
from proxyd.config.model import Listener, Network
from proxyd.config.report import Report
from proxyd.config.secrets import Secret
from proxyd.config.values import BadValue

_T = TypeVar("_T")


class Section:
    """
    A mapping of the file, at a dotted path.

    @param path: the dotted path of its keys; empty for the file itself
    @param environment: where secrets and C{~} look for variables
    """

    def __init__(
        self, table: Table, path: str, report: Report, environment: Mapping[str, str]
    ) -> None:
        self.path = path
        self.line = table.line
        self.report = report
        self.environment = environment
        self._entries = {entry.key: entry for entry in table.entries}
        self._known: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether a key is there, right or wrong."""
        self._known.add(name)
        return name in self._entries

    def keys(self) -> Sequence[str]:
        """The keys that are there, in the order of the file; asking makes all of them known."""
        self._known.update(self._entries)
        return tuple(self._entries)

    def wrong(self, name: str, what: str) -> None:
        """Tell the report what is wrong with a key, at its line (or the section's)."""
        self.report.wrong(joined(self.path, name) if name else self.path, what, self._line(name))

    def warn(self, name: str, what: str) -> None:
        """Warn about a key, at its line (or the section's)."""
        self.report.warn(joined(self.path, name) if name else self.path, what, self._line(name))

    def not_yet(self, name: str, about: str = "") -> None:
        """Say that a key, or one value of it, waits for a later version."""
        self.report.not_yet(joined(self.path, name), self._line(name), about)

    def close(self, also: Iterable[str] = ()) -> None:
        """
        Tell of every key that nobody asked for, with what may have been meant.

        @param also: keys known by name that are not asked for
        """
        self._known.update(also)
        for entry in self._entries.values():
            if entry.key not in self._known:
                meant = difflib.get_close_matches(entry.key, sorted(self._known), 1, 0.6)
                hint = f"; did you mean {meant[0]}?" if meant else ""
                self.wrong(entry.key, f"is not a known key{hint}")

    def section(self, name: str) -> Section | None:
        """The section below a key; a key with nothing under it is a section without keys."""
        entry = self._entry(name)
        if entry is None:
            return None
        node = entry.value
        if isinstance(node, Scalar) and node.value is None:
            node = Table((), entry.line)
        if not isinstance(node, Table):
            self.wrong(name, f"must be a mapping of keys to values, not {described(node)}")
            return None
        below = Table(node.entries, entry.line)
        return Section(below, joined(self.path, name), self.report, self.environment)

    def sections(self, name: str) -> tuple[Section, ...] | None:
        """The sections of a list below a key, or the one that stands there; None: absent."""
        entry = self._entry(name)
        if entry is None:
            return None
        if isinstance(entry.value, Scalar) and entry.value.value is None:
            return ()
        nodes = entry.value.items if isinstance(entry.value, Items) else (entry.value,)
        found = []
        for place, node in enumerate(nodes):
            key = f"{name}[{place}]" if isinstance(entry.value, Items) else name
            if isinstance(node, Table):
                path = joined(self.path, key)
                found.append(Section(node, path, self.report, self.environment))
            else:
                what = f"must be a mapping of keys to values, not {described(node)}"
                self.report.wrong(joined(self.path, key), what, node.line)
        return tuple(found)

    def text(self, name: str) -> str | None:
        """Any text but an empty one."""
        return self.value(name, str)

    def value(self, name: str, parse: Callable[[str], _T]) -> _T | None:
        """What C{parse} makes of a text; its L{BadValue} is told of the key."""
        entry = self._entry(name)
        if entry is None:
            return None
        return self._parsed(name, entry.value, self._line(name), parse)

    def each(
        self, name: str, parse: Callable[[str], _T], *, numbers: bool = False
    ) -> tuple[_T, ...] | None:
        """
        What C{parse} makes of one text, or of each of a list; None: absent or wrong.

        @param numbers: whether a whole number is as good as its digits
        """
        entry = self._entry(name)
        if entry is None:
            return None
        if not isinstance(entry.value, Items):
            one = self._parsed(name, _digits(entry.value, numbers), entry.line, parse)
            return None if one is None else (one,)
        found = []
        for place, item in enumerate(entry.value.items):
            node = _digits(item, numbers)
            one = self._parsed(f"{name}[{place}]", node, node.line, parse)
            if one is not None:
                found.append(one)
        return tuple(found) if len(found) == len(entry.value.items) else None

    def word(self, name: str, words: Sequence[str], default: str) -> str:
        """One of a few words."""
        found = self.value(name, lambda text: values.one_of(text, words))
        return default if found is None else found

    def flag(self, name: str) -> bool | None:
        """C{true} or C{false}."""
        found = self._scalar(name, bool, "true or false")
        return found if isinstance(found, bool) else None

    def count(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number from C{least} to C{most}."""
        found = self._scalar(name, int, "a whole number")
        if not isinstance(found, int):
            return default
        if not least <= found <= most:
            self.wrong(name, f"must be from {least} to {most}, not {found}")
            return default
        return found

    def duration(self, name: str, default: float, *, zero: bool = False) -> float:
        """
        Seconds.

        @param zero: whether no time at all makes sense
        """
        node = self._entry(name)
        if node is not None and isinstance(node.value, Scalar):
            number = node.value.value
            if isinstance(number, int | float) and not isinstance(number, bool):
                self.wrong(name, f"{number} has no unit: 30s, 14m, 1h and 730d are durations")
                return default
        found = self.value(name, values.duration)
        if found is None:
            return default
        if found <= 0 and not zero:
            self.wrong(name, "must be more than no time")
            return default
        return found

    def secret(self, name: str) -> Secret | None:
        """A secret: its text, C{env:NAME} or C{file:PATH}; nothing is looked up."""
        return self.value(name, self._as_secret)

    def secrets(self, name: str) -> tuple[Secret, ...] | None:
        """One secret or a list of them, as by L{secret}; None: absent or wrong."""
        return self.each(name, self._as_secret)

    def file(self, name: str) -> str | None:
        """The path of a file, C{~} expanded; nothing is looked up."""
        return self.value(name, lambda text: values.expanded(text, self.environment))

    def listeners(
        self, name: str, unfit: Mapping[str, str] | None = None
    ) -> tuple[Listener, ...] | None:
        """
        One listener or a list of them; None where the key is absent or wrong.

        @param unfit: see L{values.fit}
        """
        found = self.each(name, lambda text: values.listener(text, self.environment))
        if found == ():
            self.wrong(name, "names no listener")
            return None
        seen: set[tuple[object, ...]] = set()
        for place in found or ():
            try:
                values.fit(place, unfit or {})
            except BadValue as error:
                self.wrong(name, str(error))
            if place.kind == "tcp" and place.port == 0:
                continue  # any free port, as often as it is asked for
            where = (place.kind, place.host, place.port, place.path, place.name)
            if place.kind != "endpoint" and where in seen:
                self.wrong(name, f"{values.shown(place.text)} is named twice")
            seen.add(where)
        return found

    def size(self, name: str) -> int | None:
        """Bytes, more than none; None: absent or wrong."""
        found = self.value(name, values.size)
        if found is not None and found <= 0:
            self.wrong(name, "must be more than nothing")
            return None
        return found

    def networks(self, name: str) -> tuple[Network, ...] | None:
        """Addresses or CIDR blocks; host bits are masked, with a warning."""
        found = self.each(name, lambda text: (text, *values.network(text)))
        if found is None:
            return None
        for text, network, masked in found:
            if masked:
                self.warn(name, f"{values.shown(text)} has host bits: it means {network}")
        return tuple(network for _, network, _ in found)

    def _entry(self, name: str) -> Entry | None:
        self._known.add(name)
        return self._entries.get(name)

    def _line(self, name: str) -> int | None:
        entry = self._entries.get(name)
        return entry.line if entry is not None else self.line

    def _scalar(self, name: str, kind: type, needed: str) -> object:
        """A scalar of one type, or None after telling that it has another."""
        entry = self._entry(name)
        if entry is None:
            return None
        if isinstance(entry.value, Scalar) and type(entry.value.value) is kind:
            return entry.value.value
        self.wrong(name, f"must be {needed}, not {described(entry.value)}")
        return None

    def _parsed(
        self, name: str, node: Node, line: int | None, parse: Callable[[str], _T]
    ) -> _T | None:
        what = ""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            quote = isinstance(node, Scalar) and isinstance(node.value, bool | int | float)
            hint = ": write it in quotes" if quote else ""
            what = f"must be text, not {described(node)}{hint}"
        elif not node.value:
            what = "must not be empty"
        else:
            try:
                return parse(values.sound(node.value))
            except BadValue as error:
                what = str(error)
        self.report.wrong(joined(self.path, name), what, line)
        return None

    def _as_secret(self, text: str) -> Secret:
        kind, colon, rest = text.partition(":")
        if colon and kind == "file":
            return Secret(f"file:{values.expanded(rest, self.environment)}", self.environment)
        if colon and kind == "env" and not rest:
            raise BadValue("env: names no variable")
        return Secret(text, self.environment)


def _digits(node: Node, numbers: bool) -> Node:
    """A whole number as text, where that is welcome."""
    if numbers and isinstance(node, Scalar) and type(node.value) is int:
        return Scalar(str(node.value), node.line)
    return node
