"""
Instances, in failover order, that forward ports to remote hosts: a way out without SSH.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from proxyd.config.times import UpstreamTimes
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IUpstream, UpstreamStatus
from proxyd.net.failover import Failover
from proxyd.ssm.ground import Ground
from proxyd.ssm.instance import Instance
from proxyd.target import Principal, Target


class _NotUsable(Exception):
    """There are no credentials for an instance; the text is for the operator."""


@implementer(IUpstream)
class SsmUpstream(Service):
    """
    A way out through instances' SSM agents.

    An instance counts as connected when there are credentials for it: whether
    its agent is there shows when a session is started.

    @param instances: in failover order
    @param resolves: C{far} or C{local}, see L{IUpstream}
    @param sessions: for one destination, side by side
    @param timeout: seconds that one dial may take
    """

    carries_udp = False

    def __init__(
        self,
        name: str,
        instances: Sequence[str],
        ground: Ground,
        *,
        resolves: str = "far",
        sessions: int = 1,
        timeout: float = 60.0,
        times: UpstreamTimes | None = None,
    ) -> None:
        self.name = name
        self.resolves = resolves
        self._ground = ground
        self._timeout = timeout
        self._sessions = sessions
        connectors = [(one, self._connector(one)) for one in instances]
        jitter = secrets.SystemRandom().random
        self._failover: Failover[Instance] = Failover(
            name, connectors, ground.clock, jitter, times or UpstreamTimes(connect=30.0)
        )

    def startService(self) -> None:
        """Look whether there are credentials; nobody waits for it here."""
        super().startService()  # type: ignore[no-untyped-call]
        self._failover.start()

    def stopService(self) -> Deferred[None]:
        """End all sessions; fires when AWS was told."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._failover.stop())

    def ready(self) -> Deferred[None]:
        """See L{IUpstream.ready}."""
        return self._failover.ready()

    def status(self) -> UpstreamStatus:
        """See L{IUpstream.status}."""
        return self._failover.status()

    def endpoint_for(self, target: Target, principal: Principal) -> IStreamClientEndpoint:
        """The way to a target, by whichever instance is well. See L{IUpstream}."""
        return _Endpoint(self._ground, self._failover, target, self._timeout)

    def _connector(self, instance: str) -> Any:
        async def connect() -> Instance:
            try:
                await self._ground.source.check()
            except DialError as problem:
                raise _NotUsable(problem.detail) from None
            return Instance(self._ground, instance, self._sessions)

        return connect


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """The way to one target."""

    def __init__(
        self, ground: Ground, failover: Failover[Instance], target: Target, timeout: float
    ) -> None:
        self._ground = ground
        self._failover = failover
        self._target = target
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IDialer.endpoint_for<proxyd.interfaces.IDialer.endpoint_for>}."""

        def too_late(_: object, seconds: float) -> IProtocol:
            raise DialError(DialFailure.TIMEOUT, f"{self._target}: no answer in {seconds:g} s")

        dialling = Deferred.fromCoroutine(self._connect(protocolFactory))
        dialling.addTimeout(self._timeout, self._ground.clock, too_late)
        return dialling

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        stream = await self._failover.use(lambda instance: instance.open(self._target))
        protocol: Any = factory.buildProtocol(stream.getPeer())
        if protocol is None:
            stream.abortConnection()
            raise DialError(DialFailure.BROKEN, f"{self._target}: nobody wants it any more")
        stream.attach(protocol)
        return protocol  # type: ignore[no-any-return]
