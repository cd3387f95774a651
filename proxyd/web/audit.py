"""The line of the log for each change that was asked for by the API, whether it was made or not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

_log = Logger()

_SECRET = re.compile(r"\b(pxa_|eyJ)[A-Za-z0-9_-]+(\.[A-Za-z0-9_.-]*)?")
"""An agent's token, or a JWT: pasted where an id should be, it is not for the log."""


def audit(source: str, route: str, names: Mapping[str, Any], status: int, code: str) -> None:
    """
    Log a change.

    @param source: who asked
    @param route: what for: C{DELETE /api/tokens/{token_id}}
    @param names: which one: the values of the path's names, and the ids of what was made;
        nothing secret is among them
    @param status: how it was answered
    @param code: the error's word; empty: it was done
    """
    _log.info(
        "audit: {route} by {source}: {status} {code} {names}",
        route=route,
        names=" ".join(f"{name}={_plain(value)}" for name, value in names.items()),
        source=source,
        status=status,
        code=code or "done",
    )


def _plain(value: object) -> str:
    """A value that somebody made up, fit for one line."""
    text = _SECRET.sub(lambda match: f"{match[1]}...", str(value)[:100])
    return "".join(letter if letter.isprintable() else "?" for letter in text)
