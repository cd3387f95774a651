"""
Reverse agents as a way out: C{upstreams: office: {agent: pc1}}.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from proxyd.agents.registry import AgentRegistry
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import InstanceStatus, IUpstream, UpstreamStatus
from proxyd.target import Principal, Target


@implementer(IUpstream)
class AgentUpstream(Service):
    """
    Reaches targets through agents, the least loaded that is here; waits for one.

    Only agents that tell whether a dial went well can do it: those that speak
    frames, or say C{proxy_connected}.
    """

    carries_udp = False

    def __init__(
        self, name: str, agents: AgentRegistry, client_ids: Sequence[str], resolves: str = "far"
    ) -> None:
        self.name = name
        self.resolves = resolves
        self._agents = agents
        self._client_ids = tuple(client_ids)
        self._opened = 0
        self._failed = 0
        self._last_error = ""

    def endpoint_for(self, target: Target, principal: Principal) -> IStreamClientEndpoint:
        """See L{IUpstream}."""
        return _Endpoint(self, target, principal)

    def ready(self) -> Deferred[None]:
        """At once: an agent comes when it comes."""
        return succeed(None)

    def status(self) -> UpstreamStatus:
        """See L{IUpstream}."""
        found = self._agents.status(self._client_ids)
        instances = tuple(
            InstanceStatus(
                one.client_id,
                "lost" if one.since is None else "connected",
                0 if one.since is None else 1,
                one.streams,
            )
            for one in found
        )
        here = [one.client_id for one in found if one.since is not None]
        state = "stopped" if not self.running else "up" if here else "connecting"
        return UpstreamStatus(
            state,
            here[0] if here else None,
            instances,
            self._last_error,
            self._opened,
            self._failed,
        )

    async def connect(
        self, target: Target, principal: Principal, factory: IProtocolFactory
    ) -> IProtocol:
        """
        A protocol whose transport leads to the target.

        @raise DialError: see L{IUpstream}
        """
        fields = {"user": principal.user, "source": principal.source}
        try:
            stream = await self._agents.open(self._client_ids, target, fields, confirmed=True)
        except DialError as error:
            if error.failure in (DialFailure.BROKEN, DialFailure.LOST):
                self._failed += 1
                self._last_error = str(error)
            raise
        protocol = factory.buildProtocol(stream.getPeer())
        if protocol is None:
            stream.abortConnection()
            raise DialError(DialFailure.BROKEN, f"{target}: nobody wants it any more")
        self._opened += 1
        stream.attach(protocol)
        return protocol


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """The way to one target."""

    def __init__(self, upstream: AgentUpstream, target: Target, principal: Principal) -> None:
        self._upstream = upstream
        self._target = target
        self._principal = principal

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IDialer.endpoint_for<proxyd.interfaces.IDialer.endpoint_for>}."""
        upstream = self._upstream
        return Deferred.fromCoroutine(
            upstream.connect(self._target, self._principal, protocolFactory)
        )
