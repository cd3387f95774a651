"""
The words for what can go wrong, shared by every floor.

Here live the exception classes that cross the borders of packages. What a
protocol says to its peer about them (an SQLSTATE, a SOCKS5 reply code) does
not: each listener keeps one table for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique


class ProtocolError(Exception):
    """
    The peer broke its protocol.

    The only exception a machine of C{proxyd.wire} raises for bytes it was
    given. Its text names the fault and never quotes a secret.
    """


class LocalProtocolError(Exception):
    """We broke a protocol: a machine was asked for what its state forbids. A bug."""


@unique
class DialFailure(Enum):
    """Why a target could not be reached, in the words of whoever dialled."""

    REFUSED = "connection refused"
    UNREACHABLE = "host unreachable"
    NETWORK = "network unreachable"
    TIMEOUT = "timed out"
    NAME = "name not found"
    DENIED = "denied by a rule"
    TLS = "TLS failed"
    CREDENTIALS = "no credentials for it"
    LOST = "connection lost"
    BROKEN = "the way there is broken"


class DialError(Exception):
    """
    A target could not be reached.

    @param failure: which of the known ways to fail it was
    @param detail: one line for the operator: what was dialled and what was said
    """

    def __init__(self, failure: DialFailure, detail: str) -> None:
        super().__init__(f"{detail}: {failure.value}" if detail else failure.value)
        self.failure = failure
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where it stands and what it is."""

    file: str
    line: int | None
    key: str
    what: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.what) if part)


class ConfigError(Exception):
    """
    A configuration can't be used.

    @param problems: everything that is wrong with it, in the order of the file
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class StartError(Exception):
    """The daemon can't start, or can't go on; the text is the one line that says why."""
