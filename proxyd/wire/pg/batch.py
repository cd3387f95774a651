"""
A statement of our own with values, as one extended batch.

Source: PostgreSQL, "Frontend/Backend Protocol", chapter "Message Flow", "Extended Query".
"""

from __future__ import annotations

from collections.abc import Iterable

from proxyd.wire.pg import messages

_CLOSE_UNNAMED = b"C\0\0\0\6S\0"


def bound_batch(sql: str, values: Iterable[str]) -> bytes:
    """
    Run a statement by one extended batch, which leaves no unnamed statement behind.

    @param values: of its parameters, in order: bound, never part of the SQL
    """
    return (
        messages.parse("", sql)
        + messages.bind("", "", [encoded(value) for value in values])
        + messages.execute("")
        + _CLOSE_UNNAMED
        + messages.SYNC
    )


def encoded(text: str) -> bytes:
    """A value as it came from a client: bytes that are no UTF-8 too."""
    return text.encode("utf-8", "surrogateescape")
