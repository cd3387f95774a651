"""
Statements as the log may show them: a bounded start, passwords masked, one line.
"""

from __future__ import annotations

import re

SHOWN = 1000
"""Characters of a statement that the log shows."""

_SECRET = re.compile(
    r"""
    \b(password\s*=?\s*)                 # CREATE ROLE ... PASSWORD '...', OPTIONS (password '...')
    (?: [eEuU]?&?'(?:[^'\\]|\\.|'')*(?:'|$)   # a literal, or the start of one that was cut
      | \$(\w*)\$.*?(?:\$\2\$|$)         # a dollar-quoted one
      | [^\s'";,)]+ )                    # password=... of a connection string
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shown(text: bytes, length: int) -> str:
    """
    A statement for the log.

    @param text: its start
    @param length: its whole length in bytes
    """
    statement = text.decode("utf-8", "replace")
    statement = _SECRET.sub(r"\1'***'", statement)
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
