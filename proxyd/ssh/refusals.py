"""
What an SSH server says where it does not open a channel, in our words.
"""

from __future__ import annotations

from proxyd.errors import DialError, DialFailure
from proxyd.net.failover import WayLost
from proxyd.target import Target

ADMINISTRATIVELY_PROHIBITED = 1
CONNECT_FAILED = 2
RESOURCE_SHORTAGE = 4

_SAID = (
    # What servers say of a failed connect (strerror(3), gai_strerror(3)).
    ("refused", DialFailure.REFUSED),
    ("timed out", DialFailure.TIMEOUT),
    ("network is", DialFailure.NETWORK),
    ("unreachable", DialFailure.UNREACHABLE),
    ("no route", DialFailure.UNREACHABLE),
    ("name", DialFailure.NAME),
    ("not known", DialFailure.NAME),
    ("unknown host", DialFailure.NAME),
    ("no address", DialFailure.NAME),
    ("permission denied", DialFailure.DENIED),
)


class NoRoom(WayLost):
    """The server has no room for another channel in this connection."""


def open_failure(target: Target, code: int, said: str) -> DialError:
    """
    What a server says about a target, in our words (RFC 4254, section 5.1).

    @param code: its reason code
    @param said: its text
    """
    detail = f"{target}: {said}" if said.lower() not in ("", "connection refused") else str(target)
    if code == ADMINISTRATIVELY_PROHIBITED:
        return DialError(DialFailure.DENIED, f"{detail} (the SSH server forbids it)")
    if code == RESOURCE_SHORTAGE:
        return NoRoom(DialFailure.BROKEN, f"{detail} (the SSH server has no room)")
    if code == CONNECT_FAILED:
        text = said.lower()
        failure = next((one for words, one in _SAID if words in text), DialFailure.UNREACHABLE)
        return DialError(failure, detail)
    return DialError(DialFailure.DENIED, f"{detail} (the SSH server can't forward)")
