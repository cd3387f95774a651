"""
Settings of a start-up packet that the client itself has reset.

In PostgreSQL C{RESET ALL} and C{DISCARD ALL} take a session back to what its
start-up packet asked for. Here that was set later, so that it is lost: drivers
with pools of their own, which say one of the two before each reuse, would go on
without their C{search_path}. It shows in C{application_name}, which the client's
start has set too and which a server reports: from the next border between two
transactions the client's settings are put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from proxyd.wire.pg.batch import bound_batch

# What pg_settings does not show (settings of extensions, the role) is reset where it is empty.
_WAS_RESET = """CASE WHEN coalesce(
 (SELECT s.source FROM pg_catalog.pg_settings AS s
  WHERE pg_catalog.lower(s.name) = pg_catalog.lower(${name}::pg_catalog.text)),
 CASE WHEN coalesce(pg_catalog.current_setting(${name}::pg_catalog.text, true), '') IN ('', 'none')
  THEN '' ELSE 'session' END) <> 'session'
 THEN pg_catalog.set_config(${name}::pg_catalog.text, ${value}, false) END"""


@lru_cache(maxsize=256)
def restoring_batch(settings: Sequence[tuple[str, str]]) -> bytes:
    """
    The extended batch that makes those of these settings again which were reset.

    What the client has set itself, since or instead, stays. Values are bound,
    never part of the SQL.
    """
    calls = ", ".join(
        _WAS_RESET.format(name=2 * number + 1, value=2 * number + 2)
        for number in range(len(settings))
    )
    return bound_batch(f"SELECT {calls}", chain.from_iterable(settings))
