"""
A StartupMessage that came whole and alone, as most do: it needs no machine to read it.
"""

from __future__ import annotations

from proxyd.wire.pg.startup import REMEMBERED, StartupRequested, remembered_startup

_MAJOR = b"\0\3"


def whole_startup(data: bytes) -> StartupRequested | None:
    """
    What a client wants whose bytes so far are a StartupMessage, and nothing else.

    @return: None for all else, and where it is too long to be kept: it is for
        L{ClientStartup<proxyd.wire.pg.startup.ClientStartup>} to read
    @raise PgProtocolError: tell the client, as FATAL, and hang up
    """
    length = int.from_bytes(data[:4], "big")
    if data[4:6] != _MAJOR or length != len(data) or length > REMEMBERED:
        return None
    return remembered_startup(data[4:])
