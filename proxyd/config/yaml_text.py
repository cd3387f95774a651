"""
YAML as a tree of nodes, without the surprises.

Only C{true} and C{false} are booleans, so C{off}, C{on}, C{yes} and C{no} are
texts; C{12:30} and C{0123} are texts too; a key given twice is told, not
lost; aliases can't grow without bound. Built on PyYAML's events, so no
constructor ever runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from proxyd.config.document import (
    DEPTH_LIMIT,
    NODE_LIMIT,
    Entry,
    Items,
    Malformed,
    Node,
    Plain,
    Scalar,
    Table,
    joined,
)
from proxyd.config.report import Report

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{1,18}", re.ASCII)
_TAGS = {
    yaml.ScalarEvent: (None, "!", "tag:yaml.org,2002:str"),
    yaml.SequenceStartEvent: (None, "!", "tag:yaml.org,2002:seq"),
    yaml.MappingStartEvent: (None, "!", "tag:yaml.org,2002:map"),
}


def read_yaml(text: str, report: Report) -> Table:
    """
    The mapping that a YAML text is; an empty text is an empty mapping.

    @param report: is told of every key that is given twice
    @raise Malformed: it is no YAML, no single mapping, or too large
    """
    try:
        return _Composer(text, report).document()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Malformed("holds a character that YAML does not allow", line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise Malformed(f"is not YAML: {what}", mark.line + 1 if mark else None) from None
    except (yaml.YAMLError, ValueError, OverflowError, IndexError):
        # PyYAML lets what chr() and int() say about odd escapes and directives through.
        raise Malformed("is not YAML") from None


class _Composer:
    """Makes nodes from the events of one YAML text."""

    def __init__(self, text: str, report: Report) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._report = report
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._count = 0

    def document(self) -> Table:
        """The whole text."""
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return Table((), 1)
        node = self._node(next(self._events), "", 0)
        next(self._events)  # the document's end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise Malformed("holds more than one YAML document", _line(after))
        if isinstance(node, Scalar) and node.value is None:
            return Table((), node.line)
        if not isinstance(node, Table):
            raise Malformed("is not a mapping of keys to values", node.line)
        return node

    def _node(self, event: yaml.Event, path: str, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        # The parser gives nothing else where a value starts.
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        self._grow(1, event)
        if depth > DEPTH_LIMIT:
            raise Malformed("is nested too deep", _line(event))
        if event.tag not in _TAGS[type(event)]:
            self._report.wrong(path, "YAML tags are not read", _line(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        before = self._count
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(_plain(event), _line(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._items(event, path, depth)
        else:
            node = self._table(event, path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, 1 + self._count - before)
        return node

    def _items(self, start: yaml.Event, path: str, depth: int) -> Items:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return Items(tuple(items), _line(start))

    def _table(self, start: yaml.Event, path: str, depth: int) -> Table:
        entries: dict[str, Entry] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or "\0" in event.value:
                raise Malformed("a key must be plain text", _line(event))
            key, line = event.value, _line(event)
            below = joined(path, key)
            value = self._node(next(self._events), below, depth + 1)
            if key == "<<":
                self._report.wrong(below, "YAML merge keys are not read: write the keys out", line)
            elif key in entries:
                first = entries[key].line
                self._report.wrong(below, f"given twice (first in line {first})", line)
            else:
                entries[key] = Entry(key, line, value)
        return Table(tuple(entries.values()), _line(start))

    def _alias(self, event: yaml.AliasEvent) -> Node:
        if event.anchor not in self._anchors:
            raise Malformed("an alias names an anchor that does not exist", _line(event))
        known = self._anchors[event.anchor]
        if known is None:
            raise Malformed("an alias stands inside what it stands for", _line(event))
        node, weight = known
        self._grow(weight, event)
        return node

    def _grow(self, weight: int, event: yaml.Event) -> None:
        self._count += weight
        if self._count > NODE_LIMIT:
            raise Malformed(f"holds more than {NODE_LIMIT} values, aliases counted", _line(event))


def _plain(event: yaml.ScalarEvent) -> Plain:
    """What a scalar stands for: a number, true, false or nothing only where it is unquoted."""
    text: str = event.value
    if not event.implicit[0] or event.tag is not None:
        return text
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None  # the parser marks each event it makes
    line: int = event.start_mark.line
    return line + 1
