"""
What a pool counts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Counters:
    """What a pool has done since it was made; each only grows."""

    acquire_count: int = 0
    acquire_waited: int = 0
    acquire_timeouts: int = 0
    opened: int = 0
    open_failures: int = 0
    reset_failures: int = 0
    lost: int = 0
    max_lifetime_closed: int = 0
    max_idle_time_closed: int = 0
    max_idle_closed: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def add(self, other: Counters) -> None:
        """Count what another one counted, too."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
