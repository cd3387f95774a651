"""
Statements as the log may show them: a bounded start, passwords masked, one line.
"""

from __future__ import annotations

import re

SHOWN = 1000
"""Characters of a statement that the log shows."""

# Possessive throughout: what a client sends must never make a search go back and forth.
_GAP = r"(?:\s|--[^\n]*+(?:\n|\Z)|/\*(?s:.*?)(?:\*/|\Z)|\*/)*+"
_QUOTED = r"'(?:[^'\\]|\\(?s:.)|\\\Z|'')*+(?:'|\Z)"
_SECRET = re.compile(
    rf"""
    (password\s*+=\s*+)''(?s:\\.|(?!'').)*+(?:''|\Z)  # password=''...'' within a literal
    |
    (password"?+{_GAP}=?+{_GAP})         # CREATE ROLE ... PASSWORD '...', OPTIONS (password '...')
    (?: (?:e|n|u&)?+{_QUOTED}            # a literal, or the start of one that was cut
        (?:{_GAP}{_QUOTED})*+            # a literal goes on after a line's end
      | \$(\w*+)(?:\$(?s:.*?)(?:\$\3\$|\Z)|\Z) )  # a dollar-quoted one
    |
    (password\s*+=\s*+)[^\s'";,)]++     # password=... of a connection string
    """,
    re.IGNORECASE | re.VERBOSE,
)


def _masked(found: re.Match[str]) -> str:
    return f"{found[1] or found[2] or found[4]}'***'"


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shown(text: bytes, length: int) -> str:
    """
    A statement for the log.

    @param text: its start
    @param length: its whole length in bytes
    """
    statement = text.decode("utf-8", "replace")
    statement = _SECRET.sub(_masked, statement)
    cut = len(statement) > SHOWN or length > len(text)
    statement = _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", statement[:SHOWN])
    return statement + "..." if cut else statement


def query_text(body: bytes, length: int) -> str:
    """What the log shows of a Query."""
    return shown(body.rstrip(b"\0"), length - 1)


def parse_text(body: bytes, length: int) -> tuple[str, str]:
    """What the log shows of a Parse: the statement's name, and its text."""
    name, _, rest = body.partition(b"\0")
    text, end, _ = rest.partition(b"\0")
    whole = len(text) if end else length - len(name) - 1
    return shown(name, len(name)), shown(text, whole)
