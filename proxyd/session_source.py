"""
The door between whoever speaks Session Manager's data channel and whoever can ask AWS for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from zope.interface import Interface


@dataclass(frozen=True, slots=True)
class SessionTicket:
    """
    What opens one WebSocket of a session of AWS's Session Manager.

    @param url: where, to be used as it is
    @param token: good for one WebSocket, and not for long
    """

    session_id: str
    url: str
    token: str = field(repr=False)


class ISessionSource(Interface):
    """
    Whoever can start sessions of AWS's Session Manager.

    Failures are L{DialError<proxyd.errors.DialError>} only, with a line in the
    operator's words. Each call has a deadline of its own.
    """

    def check() -> Deferred[None]:
        """Whether there are credentials, and a region."""

    def start(
        instance: str,  # noqa: N805
        document: str,
        parameters: Mapping[str, str],
    ) -> Deferred[SessionTicket]:
        """
        Start a session; it is asked again, for a while, when AWS says to slow down.

        @param document: which kind of session
        """

    def resume(session_id: str) -> Deferred[SessionTicket | None]:  # noqa: N805
        """What opens another WebSocket of a session; None: it is over."""

    def terminate(session_id: str) -> Deferred[None]:  # noqa: N805
        """End a session; never fails."""

    def sign(url: str, host: str) -> Deferred[Mapping[str, str]]:  # noqa: N805
        """
        The headers that sign the opening of a WebSocket.

        @param host: the text of its Host header
        @return: empty where there is nothing to sign with, or nothing to sign; never fails
        """
