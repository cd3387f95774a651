"""
One agent's WebSocket, as both ends have it: streams above, messages below.

The machine (frames or JSON) decides what is said; here is what it needs of the
world: the time, the transport's pauses, and who gets the events. Few bytes wait
in the WebSocket's own buffer, so that the machine's turns decide what goes next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from proxyd.agents.failures import FAILURES
from proxyd.agents.sockets import Wire
from proxyd.agents.stream import AgentStream, give_up_slowest
from proxyd.agents.stride import Stride
from proxyd.errors import DialError, DialFailure, ProtocolError
from proxyd.net.last_bytes import LastBytes
from proxyd.target import Target
from proxyd.wire.agent import events as told
from proxyd.wire.agent.frames import Code
from proxyd.wire.agent.hello import Hello, parse_hello
from proxyd.wire.agent.json_session import JsonSession
from proxyd.wire.agent.mux import Mux

_log = Logger()

Taker = Callable[[int, Mapping[str, Any]], None]


@implementer(IPushProducer)
class AgentSession:
    """
    The streams of one WebSocket.

    @ivar machine: what speaks
    @ivar has_credit: whether the far side can be held back stream by stream
    @ivar received: bytes of messages that came
    @ivar sent: bytes of messages that went
    @ivar held: bytes that came and wait for the readers of all streams
    @ivar lost_because: why it is over; empty while it is not
    @ivar hello: what the peer has said of itself
    """

    def __init__(
        self,
        machine: Mux | JsonSession,
        wire: Wire,
        clock: IReactorTime,
        keepalive: float,
        taker: Taker | None = None,
        gone: Callable[[str], None] | None = None,
    ) -> None:
        """
        @param keepalive: seconds between two pings; after three without a word
            the peer is dead
        @param taker: gets what the peer wants opened
        @param gone: told once, when the session is over
        """
        self.machine = machine
        self.has_credit = isinstance(machine, Mux)
        self.received = 0
        self.sent = 0
        self.held = 0
        self.lost_because = ""
        self.hello = Hello()
        self._wire = wire
        self._clock = clock
        self._keepalive = keepalive
        self._taker = taker
        self._gone = gone
        self._streams: dict[int, AgentStream] = {}
        self._opening: dict[int, tuple[Deferred[AgentStream], Target]] = {}
        self._paused = False
        self._stride = Stride(clock)
        self._busy = False
        # What a stream that was left has still to send, and to hear the end of.
        self._leaving: LastBytes[int] = LastBytes(
            clock, lambda number: machine.queued_on(number) or 0, self._abandon
        )
        self._heard = clock.seconds()
        self._pulse = LoopingCall(self._beat)
        self._pulse.clock = clock
        self._pulse.start(keepalive, now=False)
        self._handlers: dict[type, Callable[[Any], None]] = {
            told.Opened: self._opened,
            told.OpenFailed: self._open_failed,
            told.Finished: lambda event: self._tell(event, AgentStream.end_received),
            told.Closed: self._closed,
            told.WasReset: self._was_reset,
            told.Writable: lambda event: self._tell(event, AgentStream.writable),
            told.OpenRequested: self._requested,
            told.GoneAway: lambda event: self.end(
                f"the peer says: {event.text or event.code.name}"
            ),
            told.Alive: lambda event: None,
            told.Datagram: lambda event: None,
        }

    @property
    def round_trip(self) -> float:
        """Seconds that the last ping took; 0: not known."""
        return self.machine.round_trip

    @property
    def paused(self) -> bool:
        """Whether the WebSocket takes no more for now."""
        return self._paused

    @property
    def streams(self) -> int:
        """How many streams go through it."""
        return len(self._streams)

    # Verbs for whoever opens streams

    def open(
        self, target: Target, fields: Mapping[str, Any], compress: bool = False
    ) -> Deferred[AgentStream]:
        """
        A stream to a target behind the agent.

        Fails with L{DialError}: what the agent said of the target, BROKEN when
        there are too many, LOST when the session is over. Cancel it to give up.
        """
        opening: Deferred[AgentStream] = Deferred(lambda _: self._give_up(number))
        number = 0
        if self.lost_because or self.machine.full:
            why = self.lost_because or "too many connections through this agent"
            kind = DialFailure.LOST if self.lost_because else DialFailure.BROKEN
            opening.errback(DialError(kind, f"{target}: {why}"))
            return opening
        number = self.machine.open(
            {
                "remote_host": target.host,
                "remote_port": target.port,
                "protocol": "tcp",
                **fields,
            },
            self._clock.seconds(),
            compress,
        )
        self._opening[number] = (opening, target)
        self._turn()
        return opening

    def accept(self, number: int, target: Target, compress: bool = False) -> AgentStream:
        """The stream that the peer wants is there; attach its protocol."""
        machine = self.machine
        assert isinstance(machine, Mux)
        stream = self._streams.get(number)
        if stream is None:
            stream = self._streams[number] = AgentStream(self, number, target)
        machine.accept(number, self._clock.seconds(), compress)
        self._turn()
        return stream

    def refuse(self, number: int, code: Code, text: str) -> None:
        """The stream that the peer wants can't be had."""
        machine = self.machine
        assert isinstance(machine, Mux)
        self._streams.pop(number, None)
        machine.refuse(number, code, text)
        self._turn()

    def end(self, reason: str, code: Code = Code.STOPPING) -> None:
        """End the session in order, and all its streams at once."""
        if not self.lost_because:
            self.machine.go_away(code, reason)
            self._flush(whatever=True)
            self._wire.close(reason)
            self.lost(reason)

    # Verbs for streams

    def send(self, number: int, data: bytes) -> None:
        """See L{Mux.send<proxyd.wire.agent.mux.Mux.send>}; a stream that is full is told."""
        if not self.machine.send(number, data) and number in self._streams:
            # Before anything goes: it may be empty again at once, which is told, too.
            self._streams[number].filled()
        self._turn()

    def finish(self, number: int) -> None:
        """See L{Mux.finish<proxyd.wire.agent.mux.Mux.finish>}."""
        self.machine.finish(number)
        self._turn()

    def reset(self, number: int, code: Code, text: str = "") -> None:
        """See L{Mux.reset<proxyd.wire.agent.mux.Mux.reset>}."""
        self.machine.reset(number, code, text)
        self._turn()

    def consumed(self, number: int, count: int) -> None:
        """See L{Mux.consumed<proxyd.wire.agent.mux.Mux.consumed>}."""
        self.machine.consumed(number, count, self._clock.seconds())
        self._turn()

    def left(self, stream: AgentStream) -> None:
        """A stream needs to hear nothing any more; what it has sent still goes, if it is taken."""
        self._streams.pop(stream.number, None)
        if self.machine.queued_on(stream.number) is not None and not self.lost_because:
            self._leaving.wait(stream.number)

    def call_soon(self, work: Callable[[], None]) -> None:
        """Call this when nobody is being called."""
        self._clock.callLater(0, work)

    # The WebSocket's side

    def ask(self) -> None:
        """Learn how long the way takes: a stream's window may grow where it is long."""
        self.machine.ping(self._clock.seconds())
        self._turn()

    def message_received(self, message: bytes | bytearray | memoryview | str) -> None:
        """
        A whole message came.

        @raise ProtocolError: the peer broke the protocol; the session has ended
        """
        if self.lost_because:
            return
        self.received += len(message)
        self._heard = self._clock.seconds()
        try:
            self.machine.receive_message(message, self._heard)  # type: ignore[arg-type]
        except ProtocolError as error:
            self._handle_events()
            self.end(str(error), Code.PROTOCOL)
            raise
        self._turn()

    def text_received(self, text: str) -> None:
        """Text beside frames came: a HELLO, or a later version's words."""
        self.hello = parse_hello(text) or self.hello

    def heard(self) -> None:
        """The peer gave a sign of life by the WebSocket's own means."""
        self._heard = self._clock.seconds()

    def pauseProducing(self) -> None:
        """The WebSocket takes no more for now."""
        self._paused = True
        self._stride.began()

    def resumeProducing(self) -> None:
        """The WebSocket takes more."""
        self._paused = False
        self._stride.ended()
        self._turn()

    def stopProducing(self) -> None:
        """The WebSocket is gone; L{lost} follows."""
        self._paused = True

    def lost(self, reason: str) -> None:
        """The WebSocket is gone: so are all streams."""
        if self.lost_because:
            return
        self.lost_because = reason
        self._pulse.stop()
        self._leaving.stop()
        opening, self._opening = self._opening, {}
        for waiting, target in opening.values():
            waiting.errback(DialError(DialFailure.LOST, f"{target}: {reason}"))
        for stream in list(self._streams.values()):
            stream.lost(reason)
        if self._gone is not None:
            self._gone(reason)

    # Events

    def _turn(self) -> None:
        """Handle what has happened, and send what there is to send, until both are done."""
        if self._busy:
            return
        self._busy = True
        try:
            while self._handle_events() | self._flush():
                pass
            if self.machine.overrun and not self.lost_because:
                self._wire.abort()
                self.lost("it reads too little of what it is told")
        finally:
            self._busy = False

    def _handle_events(self) -> bool:
        """Whether there were any."""
        events = self.machine.take_events()
        for event in events:
            if type(event) is told.Data:
                stream = self._streams.get(event.stream)
                if stream is not None:
                    stream.data_received(event.pieces)
                    if self.held > self.machine.limits.held:
                        self._make_room()
                else:
                    self._unread(event)
            else:
                self._handlers[type(event)](event)
        return bool(events)

    def _flush(self, whatever: bool = False) -> bool:
        """Whether anything was sent."""
        machine, sent = self.machine, False
        while whatever or not self._paused:
            if isinstance(machine, Mux):
                pieces, size = machine.next_pieces(self._stride.length)
                if not size:
                    break
                self._wire.send_pieces(pieces, size)
            else:
                message = machine.next_message()
                if not message:
                    break
                size = len(message)
                self._wire.send(message)
            sent = True
            self.sent += size
        return sent

    def _make_room(self) -> None:
        """Reset those whose readers left the most, until a quarter of the room is free."""
        count = give_up_slowest(
            self._streams.values(), self.held - self.machine.limits.held * 3 // 4
        )
        _log.warn("too much waited to be read: {count} connections reset", count=count)

    def _abandon(self, number: int) -> None:
        """The peer takes nothing more of a stream whose own side has left long ago."""
        self.reset(number, Code.SLOW, "what was last sent is not taken")

    def _unread(self, event: told.Data) -> None:
        """Data of a stream that was closed here: as for TCP, whoever sends it is told so."""
        self._leaving.forget(event.stream)
        self.machine.reset(event.stream, Code.RESET, "it was closed")

    def _opened(self, event: told.Opened) -> None:
        opening, target = self._opening.pop(event.stream, (None, None))
        if opening is None or target is None:
            self.machine.reset(event.stream, Code.GONE, "nobody waits for it any more")
            return
        stream = self._streams[event.stream] = AgentStream(self, event.stream, target)
        opening.callback(stream)

    def _open_failed(self, event: told.OpenFailed) -> None:
        opening, target = self._opening.pop(event.stream, (None, None))
        if opening is not None:
            failure = FAILURES.get(event.code, DialFailure.BROKEN)
            more = event.text not in ("", failure.value)  # else the failure says it itself
            opening.errback(DialError(failure, f"{target}: {event.text}" if more else f"{target}"))

    def _was_reset(self, event: told.WasReset) -> None:
        self._leaving.forget(event.stream)
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.lost(event.text or event.code.name.lower())
        elif event.stream in self._opening:
            self._open_failed(told.OpenFailed(event.stream, event.code, event.text))

    def _closed(self, event: told.Closed) -> None:
        self._leaving.forget(event.stream)
        self._tell(event, AgentStream.closed)

    def _requested(self, event: told.OpenRequested) -> None:
        if self._taker is None:
            self.refuse(event.stream, Code.UNSUPPORTED, "no streams are taken here")
            return
        # What comes for it before it is accepted is kept in it.
        where = Target(str(event.fields.get("remote_host", "")), 0)
        self._streams[event.stream] = AgentStream(self, event.stream, where)
        self._taker(event.stream, event.fields)

    def _tell(self, event: Any, what: Callable[[AgentStream], None]) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            what(stream)

    def _give_up(self, number: int) -> None:
        """Whoever waited for a stream waits no longer."""
        opening, _ = self._opening.pop(number, (None, None))
        if opening is not None:
            self.machine.reset(number, Code.GONE, "given up")
            self._turn()

    def _beat(self) -> None:
        if self._clock.seconds() - self._heard > 3 * self._keepalive:
            self._wire.abort()
            self.lost(f"silent for {3 * self._keepalive:g} s")
            return
        self._wire.ping()
        self.ask()
