"""
The variables that configure proxyd without a file, and the C{.env} that may hold them.

What is set in the process wins over C{.env}; an empty variable counts as not
set. What each variable means is known where its value is used:
L{proxyd.config.sections} and L{proxyd.config.connections}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxyd.config.document import Malformed, file_text
from proxyd.config.report import Report
from proxyd.errors import ConfigError, Problem

NAMES = (
    "GPRXY_USER",
    "GPRXY_PASS",
    "DB_HOST",
    "PROXY_PORT",
    "PROXY_POOL_SIZE",
    "PROXY_HOST",
    "JWT_SECRET",
)
"""The variables that proxyd reads by itself; secrets name any others as C{env:NAME}."""

PROCESS = "environment"
"""What stands for the file in a problem with a variable of the process."""

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=", re.ASCII)
_BLANK = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|\Z)")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"[^\n]*")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable that is set, and where: a file and its line, or the process."""

    name: str
    value: str = field(repr=False)
    file: str
    line: int | None


class Variables:
    """
    What is set, from the process and from a C{.env}.

    @param process: the process's own variables
    @param written: those of the C{.env}
    """

    def __init__(
        self, process: Mapping[str, str], written: Mapping[str, Variable] | None = None
    ) -> None:
        self._process = process
        self._written = {} if written is None else dict(written)
        self.all: Mapping[str, str] = {
            **{name: variable.value for name, variable in self._written.items()},
            **{
                name: value for name, value in process.items() if value or name not in self._written
            },
        }

    def get(self, name: str) -> Variable | None:
        """A variable of either place; None: it is not set, or empty."""
        value = self._process.get(name, "")
        if value:
            return Variable(name, value, PROCESS, None)
        written = self._written.get(name)
        return written if written is not None and written.value else None

    def set_names(self) -> tuple[str, ...]:
        """Those of L{NAMES} that are set."""
        return tuple(name for name in NAMES if self.get(name) is not None)

    def sources(self) -> tuple[str, ...]:
        """Where those of L{NAMES} that are set come from: C{environment}, a file's path."""
        found = (self.get(name) for name in NAMES)
        return tuple(dict.fromkeys(variable.file for variable in found if variable is not None))

    @property
    def has_service_account(self) -> bool:
        """Whether GPRXY_USER or GPRXY_PASS is set."""
        return self.get("GPRXY_USER") is not None or self.get("GPRXY_PASS") is not None


def wrong_variable(report: Report, variable: Variable, what: str) -> None:
    """Tell the report what is wrong with a variable, by its own place."""
    report.wrong(variable.name, what, variable.line, variable.file)


def read_dotenv(path: str) -> dict[str, Variable]:
    """
    The variables of a C{.env}; a file that does not exist has none.

    C{NAME=VALUE} a line, C{export} before it if you like; a value in single
    quotes is taken as it stands, one in double quotes knows C{\\n}, C{\\t},
    C{\\"} and may go over several lines, a bare one ends at a C{#} after a
    space. Nothing is interpolated, so a C{$} in a password is a C{$}.

    @raise ConfigError: the file can't be read or a line is none of these; the
        text quotes nothing of it
    """
    try:
        text = file_text(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError([Problem(path, None, "", error.strerror or str(error))]) from None
    except Malformed as error:
        raise ConfigError([Problem(path, error.line, "", error.what)]) from None
    try:
        return _parsed(path, text)
    except Malformed as error:
        raise ConfigError([Problem(path, error.line, "", error.what)]) from None


def _parsed(path: str, text: str) -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    place = 0
    while place < len(text):
        if blank := _BLANK.match(text, place):
            place = blank.end()
            continue
        line = text.count("\n", 0, place) + 1
        start = _ASSIGNMENT.match(text, place)
        if start is None:
            raise Malformed("is not NAME=VALUE", line)
        value, place = _value(text, start.end(), line)
        if "\0" in value:
            raise Malformed("holds a NUL", line)
        found[start[1]] = Variable(start[1], value, path, line)
    return found


def _value(text: str, place: int, line: int) -> tuple[str, int]:
    """A value and where it ends, which is the end of a line."""
    bare = _BARE.match(text, place)
    assert bare is not None  # it matches nothing, too
    quoted = place + len(bare[0]) - len(bare[0].lstrip(" \t"))
    quote = text[quoted : quoted + 1]
    if quote not in ("'", '"'):
        return re.split(r"[ \t]#", bare[0], maxsplit=1)[0].strip(), bare.end()
    match = (_SINGLE if quote == "'" else _DOUBLE).match(text, quoted)
    after = _BLANK.match(text, match.end()) if match else None
    if match is None or after is None:
        raise Malformed("a quote is not closed, or something stands after it", line)
    if quote == "'":
        return match[1], after.end()
    value = re.sub(
        r"\\(.)", lambda escape: _ESCAPED.get(escape[1], escape[1]), match[1], flags=re.DOTALL
    )
    return value, after.end()
