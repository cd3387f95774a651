"""
The way to a port of an instance: what an SSH client is given to dial by.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from proxyd.errors import DialError, DialFailure
from proxyd.ssm.ground import Ground
from proxyd.ssm.ports import BasicPort
from proxyd.ssm.session import Session
from proxyd.target import Target

DOCUMENT = "AWS-StartSSHSession"


@implementer(IStreamClientEndpoint)
class InstancePort:
    """
    A port of an instance, where a server speaks first: SSH.

    Each connection has a session of its own.
    """

    def __init__(self, ground: Ground, instance: str, port: int) -> None:
        self._ground = ground
        self._instance = instance
        self._port = port

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect; the protocol is connected when the first byte has come.

        Fails with L{DialError}, whose text says what is wrong with whom.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        ground = self._ground
        target = Target(self._instance, self._port)
        port = BasicPort(ground.clock, ground.times, target)
        parameters = {"portNumber": str(self._port)}
        session = Session(ground, port, self._instance, DOCUMENT, parameters)
        port.session = session
        problems: list[DialError] = []
        port.first.addErrback(_kept(problems))
        await session.start()
        port.first.addTimeout(ground.times.first_byte, ground.clock, self._silent)
        try:
            await port.first
            if problems:
                raise problems[0]
            protocol: Any = factory.buildProtocol(port.stream.getPeer())
            if protocol is None:
                raise DialError(DialFailure.BROKEN, f"{target}: nobody wants it any more")
        except BaseException:
            session.end()
            raise
        port.stream.attach(protocol)
        return protocol  # type: ignore[no-any-return]

    def _silent(self, _: object, seconds: float) -> None:
        raise DialError(
            DialFailure.BROKEN,
            f"port {self._port} on {self._instance} said nothing in {seconds:g} s: it refused, "
            "or sshd is not running there",
        )


def _kept(problems: list[DialError]) -> Any:
    """Keep a failure for whoever asks later."""

    def keep(failure: Any) -> None:
        failure.trap(DialError)
        problems.append(failure.value)

    return keep
