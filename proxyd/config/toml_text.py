"""
TOML as a tree of nodes, with lines where they can be found.

The standard library's reader gives no lines, so a scan of the text finds
where headers and keys stand; what stands in an inline table or in a list of
several lines gets the line of the key it belongs to.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

from proxyd.config.document import (
    DEPTH_LIMIT,
    NODE_LIMIT,
    Entry,
    Items,
    Malformed,
    Node,
    Scalar,
    Table,
)
from proxyd.config.report import Report

Step = str | int
"""A key, or the place in a list."""

_HEADER = re.compile(r"\s*(\[\[?)(.+?)\]\]?\s*(?:#.*)?")
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=", re.ASCII)
_FENCE = re.compile(r'"""|\'\'\'')
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")


def read_toml(text: str, report: Report) -> Table:
    """
    The table that a TOML text is.

    @param report: not needed here, since TOML itself refuses a key given twice
    @raise Malformed: it is no TOML, or too large
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        what = _PLACE.sub("", str(error))
        line = int(place[1]) if place and place[1] else text.count("\n") + 1
        raise Malformed(f"is not TOML: {what}", line) from None
    except (RecursionError, ValueError):
        # Nested too deep, or a number of more digits than Python converts.
        raise Malformed("is not TOML that a configuration could be") from None
    table = _Builder(_lines(text)).node(found, (), 1, 0)
    assert isinstance(table, Table)
    return table


class _Builder:
    """Makes nodes from what the standard library read."""

    def __init__(self, lines: Mapping[tuple[Step, ...], int]) -> None:
        self._lines = lines
        self._count = 0

    def node(self, value: object, path: tuple[Step, ...], line: int | None, depth: int) -> Node:
        """The node of a value; C{line} is its parent's, taken where it has none of its own."""
        self._count += 1
        line = self._lines.get(path, line)
        if depth > DEPTH_LIMIT:
            raise Malformed("is nested too deep", line)
        if self._count > NODE_LIMIT:
            raise Malformed(f"holds more than {NODE_LIMIT} values", line)
        if isinstance(value, dict):
            nodes = {key: self.node(v, (*path, key), line, depth + 1) for key, v in value.items()}
            return Table(tuple(Entry(key, node.line, node) for key, node in nodes.items()), line)
        if isinstance(value, list):
            items = (self.node(v, (*path, n), line, depth + 1) for n, v in enumerate(value))
            return Items(tuple(items), line)
        return Scalar(value, line)  # type: ignore[arg-type]  # tomllib makes nothing else


def _lines(text: str) -> dict[tuple[Step, ...], int]:
    """The first line of every header and key, by its path; texts of several lines are skipped."""
    lines: dict[tuple[Step, ...], int] = {}
    below: tuple[Step, ...] = ()
    counts: dict[tuple[Step, ...], int] = {}
    fence: str | None = None
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if fence is None:
            if header := _HEADER.fullmatch(line):
                below = _below(_steps(header[2]), counts, many=header[1] == "[[")
                for end in range(1, len(below) + 1):
                    lines.setdefault(below[:end], number)
            elif key := _KEY.match(line):
                path = (*below, *_steps(key[1]))
                for end in range(len(below) + 1, len(path) + 1):
                    lines.setdefault(path[:end], number)
        fence = _fence_after(line, fence)
    return lines


def _below(
    steps: tuple[str, ...], counts: dict[tuple[Step, ...], int], *, many: bool
) -> tuple[Step, ...]:
    """The path that a header opens; C{counts} knows how many elements each list has so far."""
    path: tuple[Step, ...] = ()
    for place, step in enumerate(steps):
        path = (*path, step)
        if many and place == len(steps) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _steps(dotted: str) -> tuple[str, ...]:
    """The keys of a dotted key, by TOML's own rules."""
    try:
        found: object = tomllib.loads(f"{dotted} = 0")
    except (tomllib.TOMLDecodeError, RecursionError):
        return (dotted,)
    steps: list[str] = []
    while isinstance(found, dict):
        key = next(iter(found))
        steps.append(key)
        found = found[key]
    return tuple(steps)


def _fence_after(line: str, fence: str | None) -> str | None:
    """Which mark must end the text of several lines that is open after this line, if one is."""
    for mark in _FENCE.findall(line):
        if fence is None:
            fence = mark
        elif mark == fence:
            fence = None
    return fence
