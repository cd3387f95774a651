"""
Whose fault the end of a session was, from the text that came with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxyd.errors import DialError, DialFailure
from proxyd.net.failover import WayLost

_KNOWN = (
    ("no such host", DialFailure.NAME, "the instance does not know the name"),
    ("server misbehaving", DialFailure.NAME, "the instance could not look the name up"),
    ("is forbidden", DialFailure.DENIED, "the instance's SSM agent does not lead there"),
)


def blamed(instance: str, said: str, parameters: Mapping[str, str]) -> DialError:
    """
    The error of a session that was closed.

    @param said: the text of C{channel_closed}; empty: it ended in order
    @param parameters: of the session
    """
    host, port = parameters.get("host"), parameters.get("portNumber")
    line = " ".join(said.split()).strip("- ")[:400]
    if host is not None:
        for words, failure, what in _KNOWN:
            if words in said:
                return DialError(failure, f"{host}:{port} by {instance}: {what} ({line})")
    if "Handshake timed out" in said:
        line = "the agent there did not hear our answer in time"
    elif "document process failed" in said:
        line = f"its SSM agent could not connect to port {port} there ({line})"
    elif "timed out due to inactivity" in said:
        line = "AWS ended the session: it was idle for too long"
    elif "Setting up data channel" in said:
        line = f"the instance has no way to ssmmessages, or no right to it ({line})"
    return WayLost(DialFailure.LOST, f"{instance}: {line or 'the session was ended there'}")
