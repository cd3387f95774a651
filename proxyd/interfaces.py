"""
The doors between rooms: what packages of one floor promise to each other.

Only interfaces live here, and only those in use. Within a room a
C{typing.Protocol} will do, and where there is one class, that class.
"""

from __future__ import annotations

from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import Interface

from proxyd.target import Principal, Target


class IDialer(Interface):
    """Whoever knows the way to a target."""

    def endpoint_for(
        target: Target,  # noqa: N805 (an interface of zope has no self)
        principal: Principal,
    ) -> IStreamClientEndpoint:
        """
        The way to a target, not yet gone.

        Nothing is looked up or opened before C{connect()} is called on the
        endpoint. That call's Deferred fires with the protocol that the factory
        built, once it is connected. It fails with
        L{DialError<proxyd.errors.DialError>} only; when it is cancelled it
        fails with C{CancelledError}. In both cases nothing is left behind: no
        socket, no timer, no name look-up that somebody waits for.

        @param target: where to go
        @param principal: for whom; a way may depend on it
        """
