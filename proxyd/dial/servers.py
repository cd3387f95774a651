"""
The way to database servers: C{via} where it is said, else the routes.

What the configuration itself names as a server needs no route that names it,
so loopback and this machine's own addresses are not denied here.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from proxyd.dial.direct import DirectDialer
from proxyd.dial.router import Router
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IDialer
from proxyd.rules.hosts import BadHost, delicate_name, host_of
from proxyd.target import Principal, Target


@implementer(IDialer)
class ServerDialer:
    """Dials the servers of one connection."""

    def __init__(self, router: Router, direct: DirectDialer, via: str | None) -> None:
        """
        @param router: knows the ways, and the routes in force
        @param via: the name of an upstream; None: the routes decide
        """
        self._router = router
        self._direct = direct
        self._via = via

    def endpoint_for(self, target: Target, principal: Principal) -> IStreamClientEndpoint:
        """
        The way to one server. See L{IDialer}.

        UNIX sockets are always of this machine; so is loopback, unless C{via}
        says that it is the far side's.
        """
        if target.is_unix:
            return self._direct.endpoint_for(target, principal)
        if self._via is not None:
            upstream = self._router.upstreams.get(self._via)
            if upstream is not None:
                return upstream.endpoint_for(target, principal)
            return _Lost(DialError(DialFailure.BROKEN, f"{target}: no upstream {self._via}"))
        if not self._router.rules.rules and self._router.goes_direct(""):
            return self._direct.endpoint_for(target, principal)
        if _is_loopback(target.host):
            return self._direct.endpoint_for(target, principal)
        return self._router.endpoint_for(target, principal)


def _is_loopback(host: str) -> bool:
    try:
        found = host_of(host)
    except BadHost:
        return False
    if found.address is not None:
        return found.address.is_loopback
    return bool(delicate_name(found.name)) and found.name.endswith("localhost")


@implementer(IStreamClientEndpoint)
class _Lost:
    """A way that is not there any more."""

    def __init__(self, error: DialError) -> None:
        self._error = error

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """It fails."""
        failed: Deferred[IProtocol] = Deferred()
        failed.errback(self._error)
        return failed
