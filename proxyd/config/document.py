"""
A configuration file as a tree of nodes that know their lines.

What YAML and TOML have in common. The two readers are
L{proxyd.config.yaml_text} and L{proxyd.config.toml_text}; what the keys mean
is not known here.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from proxyd.config.report import Report
from proxyd.errors import ConfigError, Problem

SIZE_LIMIT = 1 << 20
"""Bytes that a configuration file, or a C{.env} beside it, may have."""

NODE_LIMIT = 50_000
"""Values that a file may hold, each alias counted with all that it stands for."""

DEPTH_LIMIT = 32
"""How deep lists and mappings may stand in each other."""

Plain = str | int | float | bool | datetime.date | datetime.time | None
"""What a scalar may be; C{datetime} values come from TOML only, and no key takes them."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One plain value."""

    value: Plain
    line: int | None


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    line: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping, with its value."""

    key: str
    line: int | None
    value: Node


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping; each key stands in it once."""

    entries: tuple[Entry, ...]
    line: int | None


Node = Scalar | Items | Table


class Malformed(Exception):
    """
    A text is no YAML or TOML, or more than a configuration may be.

    @param what: what is wrong; it quotes nothing of the text, which may hold secrets
    """

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.line = line


def described(node: Node) -> str:
    """What kind of value a node is, in the user's words."""
    if isinstance(node, Table):
        return "a mapping"
    if isinstance(node, Items):
        return "a list"
    match node.value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case _:
            return "a date or time"


def joined(path: str, key: str) -> str:
    """The dotted path of a key below C{path}, printable and of bounded length."""
    key = "".join(c if c.isprintable() else "?" for c in key[:80]) + ("…" if key[80:] else "")
    return f"{path}.{key}" if path else key


def file_text(path: str) -> str:
    """
    The text of a file of at most L{SIZE_LIMIT} bytes.

    @raise Malformed: it is larger or is not UTF-8
    @raise OSError: it can't be read
    """
    with open(path, "rb") as file:
        data = file.read(SIZE_LIMIT + 1)
    if len(data) > SIZE_LIMIT:
        raise Malformed("is larger than 1 MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed("is not UTF-8 text", data.count(b"\n", 0, error.start) + 1) from None


def read_document(path: str, report: Report) -> Table:
    """
    Read a file: TOML if its name ends so, else YAML.

    @param report: is told of every key that is given twice
    @raise ConfigError: the file can't be read, or is neither YAML nor TOML
    """
    from proxyd.config.toml_text import read_toml
    from proxyd.config.yaml_text import read_yaml

    read = read_toml if path.endswith(".toml") else read_yaml
    try:
        return read(file_text(path), report)
    except OSError as error:
        raise ConfigError([Problem(path, None, "", error.strerror or str(error))]) from None
    except Malformed as error:
        raise ConfigError([Problem(path, error.line, "", error.what)]) from None
