"""
autobahn's own log lines, kept out of ours: one event is one line, and it is ours.
"""

from __future__ import annotations

from twisted.logger import Logger

_log = Logger(namespace="autobahn")


class Hush:
    """
    What autobahn logs by.

    Its running commentary is dropped, since it comes with each message; what it has
    to say of an ending goes to level debug.
    """

    def trace(self, format: str = "", **fields: object) -> None:
        """Dropped."""

    def debug(self, format: str = "", **fields: object) -> None:
        """Dropped."""

    def info(self, format: str = "", **fields: object) -> None:
        """Kept, at level debug."""
        _log.debug(format, **fields)

    warn = error = critical = failure = info
