"""How a time is told."""

from __future__ import annotations

from datetime import UTC, datetime

from proxyd.web.schema import Schema, said

TIME: Schema = said("RFC 3339, in UTC")


def shown_time(seconds: float) -> str:
    """A time as C{2026-01-31T12:00:00Z}, of seconds since the epoch."""
    told = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    return told.replace("+00:00", "Z")
