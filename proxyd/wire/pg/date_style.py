"""
DateStyle, the one setting whose value may be half of one.

It has a style and an order of day, month and year. Who sets the one keeps the
other, so that what is asked for twice has to be put together.

Source: C{check_datestyle} (variable.c).
"""

from __future__ import annotations

_STYLES = frozenset(("iso", "sql", "german"))
_ORDERS = frozenset(("ymd", "dmy", "mdy", "us"))


def merge_date_styles(earlier: str, later: str) -> str:
    """
    The value that does what setting first one and then the other does.

    A value that can't be read is left for the server to refuse.
    """
    first, second = _halves(earlier), _halves(later)
    if first is None or second is None:
        return later if first else f"{earlier}, {later}"
    style, order = second[0] or first[0], second[1]
    # German says its order itself: that of DMY.
    if not order and second[0].lower() != "german":
        order = first[1]
    return ", ".join(half for half in (style, order) if half)


def _halves(value: str) -> tuple[str, str] | None:
    """Style and order, each empty where it is not named; None: not to be understood."""
    style = order = ""
    for word in map(str.strip, value.split(",")):
        lower = word.lower()
        if (lower in _STYLES or lower.startswith("postgres")) and style.lower() in ("", lower):
            style = word
        elif (lower in _ORDERS or lower.startswith(("euro", "noneuro"))) and not order:
            order = word
        else:
            return None
    return style, order
