"""
A stream of an agent's session as a transport: what a protocol has for its C{transport}.

What comes in while our reader pauses is kept, and the far side is given no new
credit: so no more than one window is ever kept, what the reader took and paused
upon included. What is written beyond the far side's credit waits in the session's
machine, and the writer is paused. An agent that speaks JSON has no credit: a
reader who is stuck for L{STUCK} bytes is reset. What all streams of a session keep
together has its own limit: C{held} of L{Limits<proxyd.wire.agent.stream.Limits>}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet._producer_helpers import _PullToPush
from twisted.internet.address import HostnameAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IPullProducer,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.interfaces import IStream
from proxyd.target import Target
from proxyd.wire.agent.frames import Code

if TYPE_CHECKING:
    from proxyd.agents.session import AgentSession

STUCK = 1024 * 1024
"""Bytes that are kept for a reader where the agent can't be held back."""


@implementer(IStream)
class AgentStream:
    """
    One stream, from its opening to its end.

    @ivar number: its id in the session
    @ivar target: where it leads
    @ivar received: bytes that came from the far side
    @ivar sent: bytes that were written to it
    @ivar held: bytes that came and wait for the reader, or for whoever it gave them to
    @ivar portion: bytes that its reader is given at a time at most
    """

    disconnecting = False
    portion = 2**31

    def __init__(self, session: AgentSession, number: int, target: Target) -> None:
        self.number = number
        self.target = target
        self.received = 0
        self.sent = 0
        self._session = session
        self._protocol: IProtocol | None = None
        self._take: Callable[[Sequence[bytes | memoryview]], None] | None = None
        self._over = False
        self.held = 0
        self._waiting: deque[bytes] = deque()
        self._taken = 0  # of what is held: the reader has it
        self._paused = False
        self._delivering = False
        self._far_ended = False
        self._far_closed = False
        self._told_end = False
        self._full = False
        self._producer: Any = None
        self._ending = False

    @property
    def alive(self) -> bool:
        """Whether both directions are still open, as far as is known."""
        return not self._over and not self._far_ended

    @property
    def room(self) -> int:
        """Bytes that a writer should give at a time at most."""
        return self._session.machine.room

    def attach(self, protocol: IProtocol) -> None:
        """Begin to be the transport of a protocol."""
        self._protocol = protocol
        self._take = getattr(protocol, "piecesReceived", None) or _whole(protocol)
        protocol.makeConnection(self)
        self._deliver()

    # -- told by the session

    def data_received(self, pieces: Sequence[bytes | memoryview]) -> None:
        """
        The far side has sent something.

        A protocol that has C{piecesReceived} is given it as it is, where it is taken at once.
        """
        size = sum(map(len, pieces))
        self.received += size
        if self._over:
            return
        self.held += size
        self._session.held += size
        waits = self._paused or self._waiting or self._delivering or size > self.portion
        if not waits and self._take is not None:
            self._taken += size
            self._take(pieces)
            self._settle()
            return
        # A view would keep the whole message, and all that came with it.
        data, step = b"".join(pieces), self.portion
        self._waiting.extend(data[at : at + step] for at in range(0, len(data), step))
        self._deliver()
        if not self._session.has_credit and self.held > STUCK:
            self.give_up(Code.SLOW, "the reader is too slow")

    def _settle(self) -> None:
        """What the reader has taken has gone on, unless it pauses."""
        if self._taken and not self._paused:
            count, self._taken = self._taken, 0
            self.held -= count
            self._session.held -= count
            self._session.consumed(self.number, count)

    def end_received(self) -> None:
        """The far side sends no more."""
        self._far_ended = True
        self._deliver()

    def closed(self) -> None:
        """Both directions have ended in order."""
        self._far_closed = True
        self._deliver()

    def filled(self) -> None:
        """The far side takes no more for now."""
        if not self._full:
            self._full = True
            if self._producer is not None:
                self._producer.pauseProducing()

    def writable(self) -> None:
        """The far side takes more."""
        self._full = False
        if self._producer is not None:
            self._producer.resumeProducing()

    def lost(self, why: str) -> None:
        """It was reset, or its session is gone."""
        self._leave(Failure(ConnectionLost(why)))  # type: ignore[no-untyped-call]

    def give_up(self, code: Code, why: str) -> None:
        """Reset it from here, and tell our own side that it was."""
        if not self._over:
            self._session.reset(self.number, code, why)
            self._leave(Failure(ConnectionLost(why)))  # type: ignore[no-untyped-call]

    # -- in: IPushProducer

    def pauseProducing(self) -> None:
        """Hand on no more bytes."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Hand on what is held, and then what comes."""
        self._paused = False
        self._settle()
        self._deliver()

    def stopProducing(self) -> None:
        """The reader wants no more at all."""
        self.loseConnection()

    def _deliver(self) -> None:
        """Hand on what is held, as long as it is taken, and then the end."""
        protocol = self._protocol
        if protocol is None or self._delivering:
            return
        self._delivering = True
        try:
            while self._waiting and not self._paused and not self._over:
                data = self._waiting.popleft()
                self._taken += len(data)
                protocol.dataReceived(data)
                self._settle()
        finally:
            self._delivering = False
        if self._over or self._waiting or self._paused:
            return
        if self._far_ended and not self._told_end:
            self._told_end = True
            if IHalfCloseableProtocol.providedBy(protocol):
                protocol.readConnectionLost()
            else:
                self.loseConnection()
        if self._far_closed and not self._over:
            self._leave(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]

    # -- out: ITransport, IConsumer

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until they can be sent; see L{registerProducer}."""
        if self._over or self._ending or not data:
            return
        self.sent += len(data)
        self._session.send(self.number, data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """The same for several pieces."""
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        """Say that we send no more, behind all that waits."""
        if not self._ending and not self._over:
            self._ending = True
            self._session.finish(self.number)
            if not self.disconnecting:
                self._session.call_soon(self._tell_written)

    def _tell_written(self) -> None:
        protocol: Any = self._protocol
        if protocol is not None and IHalfCloseableProtocol.providedBy(protocol):
            protocol.writeConnectionLost()

    def loseConnection(self) -> None:
        """Send what waits, then close: what the far side still sends is thrown away."""
        if self.disconnecting or self._over:
            return
        self.disconnecting = True
        self.loseWriteConnection()
        self._leave(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]

    def abortConnection(self) -> None:
        """Close by a reset; what waits is thrown away."""
        if not self._over:
            self._session.reset(self.number, Code.RESET)
            self._leave(Failure(ConnectionAborted()))  # type: ignore[no-untyped-call]

    def getPeer(self) -> IAddress:
        """The target, by the name that was asked for."""
        return HostnameAddress(self.target.host.encode("idna"), self.target.port)

    def getHost(self) -> IAddress:
        """Not known: the agent does not say from which address it dials."""
        return HostnameAddress(b"", 0)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Take over whoever writes here; it is paused while the far side takes no more."""
        if self._producer is not None:
            raise RuntimeError(f"a producer is registered already: {self._producer!r}")
        if self._over:
            producer.stopProducing()
            return
        if not streaming:
            pull: IPullProducer = producer  # type: ignore[assignment]
            self._producer = wrapped = _PullToPush(pull, self)  # type: ignore[no-untyped-call]
            wrapped.startStreaming()  # type: ignore[no-untyped-call]
            return
        self._producer = producer
        if self._full:
            self._producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """The writer is done."""
        producer, self._producer = self._producer, None
        if isinstance(producer, _PullToPush):
            producer.stopStreaming()  # type: ignore[no-untyped-call]

    # -- the end

    def _leave(self, reason: Failure) -> None:
        """Forget all that waits, and tell the protocol: not while it is calling us."""
        if self._over:
            return
        self._over = True
        self._session.left(self)
        self._waiting.clear()
        self._session.held -= self.held
        self.held = self._taken = 0
        producer, self._producer = self._producer, None
        protocol, self._protocol = self._protocol, None
        self._take = None

        def tell() -> None:
            if producer is not None:
                producer.stopProducing()
            if protocol is not None:
                protocol.connectionLost(reason)

        self._session.call_soon(tell)


def _whole(protocol: IProtocol) -> Callable[[Sequence[bytes | memoryview]], None]:
    """How a protocol of Twisted's takes pieces: as one."""
    return lambda pieces: protocol.dataReceived(b"".join(pieces))


def give_up_slowest(streams: Iterable[AgentStream], excess: int) -> int:
    """
    Reset those whose readers left the most, until so many bytes fewer are held.

    @return: how many that were
    """
    count = 0
    for stream in sorted(streams, key=lambda one: one.held, reverse=True):
        if excess <= 0:
            break
        excess -= stream.held
        stream.give_up(Code.SLOW, "the reader is too slow, and too much waits for all")
        count += 1
    return count
