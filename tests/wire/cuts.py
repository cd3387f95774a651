"""How TCP may cut a stream."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """
    Cut bytes into chunks, none of them empty.

    @param places: where to cut, as numbers of any size
    """
    ends = sorted({place % len(data) for place in places} | {0, len(data)}) if data else [0]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def one_by_one(data: bytes) -> list[bytes]:
    """Cut bytes into single ones."""
    return [bytes((byte,)) for byte in data]


places = st.lists(st.integers(min_value=0, max_value=1 << 20), max_size=12)
"""Places for L{cut}."""
