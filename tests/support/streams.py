"""
What every L{IStream<proxyd.interfaces.IStream>} promises: one list of tests for all of them.

A stream joins by a subclass of L{StreamConformance} that says how a loopback
port is reached: L{StreamConformance.way}. Both ends are a L{Party}, the near
one with the stream as its transport, the far one with Twisted's TCP.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from proxyd.interfaces import IStream

PATIENCE = 60.0
"""Seconds after which a test gives up waiting."""

MEGABYTE = 1 << 20
BULK = 100 * MEGABYTE if os.environ.get("PROXYD_SOAK") == "1" else 6 * MEGABYTE
PIECE = 64 * 1024

MOST_UNDER_WAY = 48 * MEGABYTE
"""More than all buffers and windows between two ends on loopback can hold together."""

_LOOK = 0.002


def until(check: Callable[[], object], what: str) -> Deferred[None]:
    """Fires when a condition holds; fails when it does not within C{PATIENCE} seconds."""
    clock = IReactorTime(reactor)
    end = clock.seconds() + PATIENCE
    done: Deferred[None] = Deferred()

    def look() -> None:
        if check():
            done.callback(None)
        elif clock.seconds() > end:
            done.errback(AssertionError(f"waited in vain for {what}"))
        else:
            clock.callLater(_LOOK, look)

    look()
    return done


def turns(count: int) -> Deferred[None]:
    """Fires after so many turns of the reactor."""
    clock = IReactorTime(reactor)
    done: Deferred[None] = Deferred()

    def turn(left: int) -> None:
        if left:
            clock.callLater(0, turn, left - 1)
        else:
            done.callback(None)

    turn(count)
    return done


class Plain(Protocol):
    """
    One end of a stream; it does not know of half-closed ones.

    @ivar received: how many bytes came
    @ivar events: what it was told, in order, but for data
    @ivar reason: why it was lost
    """

    def __init__(self) -> None:
        self.received = 0
        self.digest = hashlib.sha256()
        self.kept = b""
        self.events: list[str] = []
        self.reason: BaseException | None = None
        self.paused_at_once = False
        self.in_call = False
        self.told_in_call = False

    @property
    def stream(self) -> Any:
        """Its transport."""
        return self.transport

    def connectionMade(self) -> None:
        """The stream is there."""
        self.events.append("made")
        if self.paused_at_once:
            self.stream.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        """Count and keep the first."""
        assert type(data) is bytes, type(data)
        self.received += len(data)
        self.digest.update(data)
        if len(self.kept) < PIECE:
            self.kept += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The stream is gone."""
        self.told_in_call = self.in_call
        self.reason = reason.value
        self.events.append("lost")

    def call(self, name: str) -> None:
        """Call a method of the stream, and note what it tells meanwhile."""
        self.in_call = True
        try:
            getattr(self.stream, name)()
        finally:
            self.in_call = False

    @property
    def lost(self) -> bool:
        """Whether the stream is gone."""
        return "lost" in self.events


@implementer(IHalfCloseableProtocol)
class Party(Plain):
    """One end of a stream that knows how to be half closed."""

    def readConnectionLost(self) -> None:
        """No more will come."""
        self.events.append("read")

    def writeConnectionLost(self) -> None:
        """No more will go."""
        self.events.append("written")


@implementer(IPushProducer)
class Pump:
    """
    Writes into a stream as long as it may.

    @ivar sent: bytes that it has written
    @ivar pauses: how often it was paused
    """

    def __init__(self, stream: Any, total: int) -> None:
        self.sent = 0
        self.pauses = 0
        self.digest = hashlib.sha256()
        self.paused = False
        self.stopped = False
        self._stream = stream
        self._total = total
        self._block = os.urandom(PIECE + 1)
        stream.registerProducer(self, True)
        self._clock = IReactorTime(reactor)
        self._clock.callLater(0, self._go)

    @property
    def done(self) -> bool:
        """Whether all is written."""
        return self.sent == self._total

    def _go(self) -> None:
        if self.paused or self.stopped:
            return
        start = self.sent % 97
        data = self._block[start : start + min(PIECE - start, self._total - self.sent)]
        self.sent += len(data)
        self.digest.update(data)
        self._stream.write(data)
        if self.done:
            self._stream.unregisterProducer()
        else:
            self._clock.callLater(0, self._go)

    def pauseProducing(self) -> None:
        """Enough for now."""
        self.paused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        """Go on."""
        self.paused = False
        self._clock.callLater(0, self._go)

    def stopProducing(self) -> None:
        """The stream is gone."""
        self.stopped = True


class StreamConformance(TestCase):
    """
    The list. A subclass gives L{way} and may change the class variables.

    @cvar half_closes: whether the end of one direction can be told by itself
    """

    half_closes = True

    def run(self, result: object = None) -> object:
        """Run the subclasses only."""
        if type(self) is StreamConformance:
            return None
        return super().run(result)  # type: ignore[arg-type]

    async def way(self, port: int) -> IStreamClientEndpoint:
        """How the stream under test leads to a port of 127.0.0.1."""
        raise NotImplementedError

    def listening(self) -> IStreamServerEndpoint:
        """Where the far end listens: TCP, unless the stream needs something else."""
        endpoint: IStreamServerEndpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")  # type: ignore[no-untyped-call]
        return endpoint

    async def stand(self, near: Plain | None = None, far: Plain | None = None) -> tuple[Any, Any]:
        """A stream, and who is at its two ends."""
        near_end, far_end = near or Party(), far or Party()
        made: list[IProtocol] = []

        def accept() -> IProtocol:
            made.append(far_end)
            return far_end

        port = await self.listening().listen(Factory.forProtocol(accept))  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        endpoint = await self.way(port.getHost().port)
        connected = await endpoint.connect(Factory.forProtocol(lambda: near_end))  # type: ignore[arg-type]
        self.assertIs(connected, near_end)
        await until(lambda: "made" in far_end.events, "the far end to be connected")
        self.addCleanup(self._end, near_end, far_end)
        return near_end, far_end

    async def _end(self, near: Plain, far: Plain) -> None:
        """No session is left behind."""
        for end in (near, far):
            if not end.lost:
                end.stream.abortConnection()
        await until(lambda: near.lost and far.lost, "both ends to be gone")
        self.assertEqual((near.events.count("lost"), far.events.count("lost")), (1, 1))

    async def test_interface(self) -> None:
        """It is what it says."""
        near, _ = await self.stand()
        self.assertTrue(verifyObject(IStream, near.stream))
        self.assertEqual(near.events, ["made"])
        near.stream.getPeer()
        near.stream.getHost()

    async def test_both_ways(self) -> None:
        """Both directions at once: all bytes, in order, once."""
        near, far = await self.stand()
        up, down = Pump(near.stream, BULK), Pump(far.stream, BULK + 1)
        await until(lambda: far.received == BULK and near.received == BULK + 1, "all bytes")
        self.assertEqual(far.digest.digest(), up.digest.digest())
        self.assertEqual(near.digest.digest(), down.digest.digest())

    async def test_small_pieces(self) -> None:
        """Many small writes, and a sequence, arrive as one row of bytes."""
        near, far = await self.stand()
        expected = b""
        for number in range(2000):
            piece = b"%d," % number
            near.stream.write(piece)
            expected += piece
        near.stream.writeSequence([b"and", b" ", b"end"])
        near.stream.write(b"")
        expected += b"and end"
        await until(lambda: far.received >= len(expected), "the pieces")
        self.assertEqual((far.received, far.kept), (len(expected), expected))

    async def test_large_write(self) -> None:
        """One write of any size is taken, and comes whole."""
        near, far = await self.stand()
        data = os.urandom(3 * MEGABYTE + 7)
        near.stream.write(data)
        await until(lambda: far.received >= len(data), "the bytes")
        self.assertEqual(far.digest.digest(), hashlib.sha256(data).digest())

    async def test_slow_reader_pauses_the_writer(self) -> None:
        """A far end that does not read stops the writer after a bounded number of bytes."""
        near, far = await self.stand()
        far.stream.pauseProducing()
        total = 2 * MOST_UNDER_WAY
        pump = Pump(near.stream, total)
        await self.still(pump)
        self.assertTrue(pump.paused)
        self.assertLess(pump.sent, MOST_UNDER_WAY)
        far.stream.resumeProducing()
        sent = pump.sent
        await until(lambda: pump.sent > sent, "the writer to go on")
        pump.stopped = True
        await until(lambda: far.received == pump.sent, "what was written")
        self.assertEqual(far.digest.digest(), pump.digest.digest())

    async def test_paused_it_holds_the_far_side_back(self) -> None:
        """While it is paused it hands on nothing, and the far writer stops."""
        near, far = await self.stand()
        near.stream.pauseProducing()
        await turns(3)
        pump = Pump(far.stream, 2 * MOST_UNDER_WAY)
        await self.still(pump)
        self.assertEqual(near.received, 0)
        self.assertLess(pump.sent, MOST_UNDER_WAY)
        near.stream.resumeProducing()
        sent = pump.sent
        await until(lambda: pump.sent > sent, "the far writer to go on")
        pump.stopped = True
        await until(lambda: near.received == pump.sent, "what was written")
        self.assertEqual(near.digest.digest(), pump.digest.digest())

    async def still(self, pump: Pump) -> None:
        """Wait until a pump is paused and stays so for many turns."""
        seen = (-1, 0)

        def rests() -> bool:
            nonlocal seen
            count, times = seen
            seen = (pump.sent, times + 1 if pump.paused and count == pump.sent else 0)
            return seen[1] > 60

        await until(rests, "the writer to be paused")

    async def test_paused_from_the_start(self) -> None:
        """Paused in connectionMade, it hands on nothing before it is resumed."""
        near = Party()
        near.paused_at_once = True
        _, far = await self.stand(near)
        far.stream.write(b"early")
        await turns(50)
        self.assertEqual(near.received, 0)
        near.stream.resumeProducing()
        await until(lambda: near.received, "the bytes")
        self.assertEqual(near.kept, b"early")

    async def test_paused_within_data(self) -> None:
        """Pausing and resuming at each piece loses nothing and changes no order."""
        clock = IReactorTime(reactor)

        class Fitful(Party):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.stream.pauseProducing()
                clock.callLater(0, self.go_on)

            def go_on(self) -> None:
                if not self.lost:
                    self.stream.resumeProducing()

        near, far = await self.stand(Fitful())
        pump = Pump(far.stream, 2 * MEGABYTE)
        await until(lambda: near.received == 2 * MEGABYTE, "all bytes")
        self.assertEqual(near.digest.digest(), pump.digest.digest())

    async def test_we_end_first(self) -> None:
        """We say that no more comes; the far end has all, and still answers."""
        near, far = await self.stand()
        near.stream.write(bytes(MEGABYTE))
        near.stream.loseWriteConnection()
        if not self.half_closes:
            await until(lambda: near.lost and ("read" in far.events or far.lost), "the end")
            self.assertEqual(far.received, MEGABYTE)
            return
        await until(lambda: "read" in far.events, "our end")
        self.assertEqual(far.received, MEGABYTE)
        far.stream.write(bytes(MEGABYTE + 1))
        far.stream.loseConnection()
        await until(lambda: near.received == MEGABYTE + 1, "the answer")
        near.stream.loseConnection()
        await until(lambda: near.lost, "the end")
        self.assertIsInstance(near.reason, ConnectionDone)
        self.assertEqual(near.events.count("written"), 1)

    async def test_far_end_ends_first(self) -> None:
        """The far end's last byte is told once, and we can still write."""
        if not self.half_closes:
            return
        near, far = await self.stand()
        far.stream.write(b"last words")
        far.stream.loseWriteConnection()
        await until(lambda: "read" in near.events, "the far end's end")
        self.assertEqual(near.kept, b"last words")
        near.stream.write(bytes(MEGABYTE))
        await until(lambda: far.received == MEGABYTE, "our answer")
        near.stream.loseConnection()
        await until(lambda: near.lost and "read" in far.events, "the end")
        self.assertEqual(near.events.count("read"), 1)
        self.assertIsInstance(near.reason, ConnectionDone)

    async def test_end_for_who_knows_no_half(self) -> None:
        """For a protocol that knows no half-close, the far end's last byte is the end."""
        near, far = await self.stand(Plain())
        far.stream.write(b"last words")
        far.stream.loseConnection()
        await until(lambda: near.lost, "the end")
        self.assertEqual(near.kept, b"last words")
        self.assertIsInstance(near.reason, ConnectionDone)

    async def test_end_waits_for_its_turn(self) -> None:
        """What comes before the far end's end is handed on first, however long we pause."""
        near, far = await self.stand(Plain())
        near.stream.pauseProducing()
        await turns(3)
        far.stream.write(bytes(MEGABYTE // 4))
        far.stream.loseConnection()
        await turns(100)
        self.assertEqual((near.received, near.events), (0, ["made"]))
        near.stream.resumeProducing()
        await until(lambda: near.lost, "the end")
        self.assertEqual(near.received, MEGABYTE // 4)

    async def test_close(self) -> None:
        """What was written before the close arrives; the end is told later, once."""
        near, far = await self.stand()
        near.stream.write(bytes(2 * MEGABYTE))
        near.call("loseConnection")
        self.assertFalse(near.told_in_call)
        await until(lambda: "read" in far.events or far.lost, "the far end's end")
        self.assertEqual(far.received, 2 * MEGABYTE)
        far.stream.loseConnection()
        await until(lambda: near.lost, "our end")
        self.assertFalse(near.told_in_call)
        self.assertIsInstance(near.reason, ConnectionDone)

    async def test_after_the_end(self) -> None:
        """Whoever is late in writing or closing does no harm."""
        near, far = await self.stand()
        near.stream.loseConnection()
        far.stream.loseConnection()
        await until(lambda: near.lost, "the end")
        near.stream.write(b"to nobody")
        near.stream.pauseProducing()
        near.stream.resumeProducing()
        near.stream.loseConnection()
        near.stream.abortConnection()

    async def test_abort(self) -> None:
        """An abort does not wait for a far end that does not read, and is told later, once."""
        near, far = await self.stand()
        far.stream.pauseProducing()
        pump = Pump(near.stream, 2 * MOST_UNDER_WAY)
        await self.still(pump)
        near.call("abortConnection")
        self.assertFalse(near.told_in_call)
        await until(lambda: near.lost, "our end")
        self.assertFalse(near.told_in_call)
        self.assertIsInstance(near.reason, (ConnectionAborted, ConnectionLost))
        self.assertTrue(pump.stopped)
        far.stream.resumeProducing()
        await until(lambda: far.lost or "read" in far.events, "the far end's end")
        self.assertLess(far.received, pump.sent + 1)

    async def test_far_end_aborts(self) -> None:
        """A far end that resets is an end that is told once; writing goes nowhere."""
        near, far = await self.stand(Plain())
        near.stream.write(b"x")
        far.stream.abortConnection()
        await until(lambda: near.lost, "the end")
        near.stream.write(b"to nobody")
