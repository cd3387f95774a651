"""
What flows in an SSH connection: channels that lead to targets (RFC 4254).

Each is an L{SshStream<proxyd.ssh.stream.SshStream>}. They take turns, a packet
each, when the connection takes no more bytes for a while. Nothing that the
server wants of us is granted: it may not open channels, and its requests are
answered with no.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from struct import pack, unpack
from typing import TYPE_CHECKING, Any

from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.service import SSHService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IPushProducer, IReactorTime
from zope.interface import implementer

from proxyd.errors import DialError, DialFailure, ProtocolError
from proxyd.net.failover import WayLost
from proxyd.net.last_bytes import LastBytes
from proxyd.ssh.refusals import ADMINISTRATIVELY_PROHIBITED, open_failure
from proxyd.ssh.stream import FIRST_WINDOW, PACKET, SshStream
from proxyd.target import Target

if TYPE_CHECKING:
    from proxyd.ssh.client import SshClient

GLOBAL_REQUEST = 80
REQUEST_FAILURE = 82
CHANNEL_OPEN = 90
CHANNEL_OPEN_FAILURE = 92
CHANNEL_WINDOW_ADJUST = 93
CHANNEL_DATA = 94
CHANNEL_EOF = 96
CHANNEL_CLOSE = 97
CHANNEL_FAILURE = 100

BATCH = 8
"""How many packets go to the socket at once."""

MOST_ANSWERS = 1000
"""Answers that may wait while the connection takes nothing."""

LONG_ROUND_TRIP = 0.2
"""Seconds that a round trip is taken to be before it is measured."""


class _Opening:
    """A channel that the server has not answered yet."""

    def __init__(self, stream: SshStream, factory: IProtocolFactory) -> None:
        self.stream = stream
        self.factory = factory
        self.done: Deferred[IProtocol] = Deferred()


@implementer(IPushProducer)
class Channels(SSHService):
    """
    All channels of one connection.

    @ivar count: channels that are open or being opened
    @ivar last_bytes: channels that close when what waits is sent
    @ivar round_trip: seconds, the shortest that was measured
    @ivar why_lost: why the connection is gone; empty while it is there
    """

    name = b"ssh-connection"
    protocolMessages = {
        80: "MSG_GLOBAL_REQUEST",
        81: "MSG_REQUEST_SUCCESS",
        82: "MSG_REQUEST_FAILURE",
        90: "MSG_CHANNEL_OPEN",
        91: "MSG_CHANNEL_OPEN_CONFIRMATION",
        92: "MSG_CHANNEL_OPEN_FAILURE",
        93: "MSG_CHANNEL_WINDOW_ADJUST",
        95: "MSG_CHANNEL_EXTENDED_DATA",
        96: "MSG_CHANNEL_EOF",
        97: "MSG_CHANNEL_CLOSE",
        98: "MSG_CHANNEL_REQUEST",
    }

    def __init__(self, client: SshClient, clock: IReactorTime) -> None:
        self.round_trip = LONG_ROUND_TRIP
        self.why_lost = ""
        self.gone: Deferred[str] = Deferred()
        self.saturated_since: float | None = None
        self.last_bytes: LastBytes[SshStream] = LastBytes(
            clock, lambda stream: stream.sent, lambda stream: stream.abortConnection()
        )
        self._client = client
        self._clock = clock
        self._next = 0
        self._opening: dict[int, _Opening] = {}
        self._streams: dict[int, SshStream] = {}
        self._closing: set[int] = set()
        self._asked: deque[float] = deque()
        self._turns: deque[SshStream] = deque()
        self._coming = b""
        self._came: list[memoryview] = []
        self._full = False
        self._held = False
        self._unsent = 0

    @property
    def count(self) -> int:
        """Channels that are open or being opened."""
        return len(self._streams) + len(self._opening)

    # -- opening

    def open(self, target: Target, source: str, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a channel to a target.

        @param source: the address for whom it is; the server may log it
        @return: fires with the protocol, connected; fails with DialError,
            which is L{WayLost} where it is not the target that refuses. When
            it is cancelled the channel is closed as soon as it is open.
        """
        number = self._next
        self._next = (number + 1) & 0xFFFFFFFF
        opening = _Opening(SshStream(self, number, target), factory)
        if self.why_lost:
            opening.done.errback(WayLost(DialFailure.LOST, f"{target}: {self.why_lost}"))
            return opening.done
        self._opening[number] = opening
        head = pack(">3L", number, FIRST_WINDOW, PACKET)
        if target.is_unix:
            kind = b"direct-streamlocal@openssh.com"
            tail = NS(target.host.encode()) + NS(b"") + bytes(4)
        else:
            kind = b"direct-tcpip"
            port = target.port.to_bytes(4, "big")
            tail = NS(target.host.encode()) + port + NS(source.encode()) + bytes(4)
        self._client.sendPacket(CHANNEL_OPEN, NS(kind) + head + tail)
        return opening.done

    def ssh_CHANNEL_OPEN_CONFIRMATION(self, packet: bytes) -> None:
        """A channel is open: whoever asked for it gets it."""
        number, far, window, size = unpack(">4L", packet[:16])
        opening = self._opening.pop(number, None)
        if opening is None:
            raise ProtocolError("a channel is confirmed that nobody asked for")
        stream = opening.stream
        self._streams[number] = stream
        stream.opened(far.to_bytes(4, "big"), window, size)
        if opening.done.called:  # given up
            stream.abortConnection()
            return
        try:
            protocol = opening.factory.buildProtocol(stream.getPeer())
        except Exception as problem:
            stream.abortConnection()
            opening.done.errback(problem)
            return
        if protocol is None:
            stream.abortConnection()
            opening.done.errback(DialError(DialFailure.BROKEN, f"{stream.target}: not wanted"))
            return
        stream.attach(protocol)
        opening.done.callback(protocol)

    def ssh_CHANNEL_OPEN_FAILURE(self, packet: bytes) -> None:
        """The server can't, or won't, reach the target."""
        number, code = unpack(">2L", packet[:8])
        said = getNS(packet[8:])[0].decode("utf-8", "replace")[:200]
        opening = self._opening.pop(number, None)
        if opening is None:
            raise ProtocolError("a channel is refused that nobody asked for")
        if not opening.done.called:
            opening.done.errback(open_failure(opening.stream.target, code, said))

    # -- what comes

    def data_received(self, packet: bytes, start: int, end: int) -> None:
        """
        Take a CHANNEL_DATA message.

        @param packet: in which it stands, its type byte not included
        """
        number = packet[start : start + 4]
        start += 8
        if start + int.from_bytes(packet[start - 4 : start], "big") != end:
            raise ProtocolError("data of another length than it says")
        if number != self._coming:
            self.deliver()
            self._coming = number
        # A view: what came in a row is copied once, when it is put together.
        self._came.append(memoryview(packet)[start:end])

    def deliver(self) -> None:
        """
        Hand on the data that was taken: what came for one channel in a row, at once.

        To be called when no more is at hand, and before any other message is taken.
        """
        if not self._came:
            return
        came, self._came = self._came, []
        stream = self._streams.get(int.from_bytes(self._coming, "big"))
        self._coming = b""
        data = b"".join(came)
        if stream is not None and not stream.data_received(data):
            raise ProtocolError("data beyond the window of its channel")

    def ssh_CHANNEL_EXTENDED_DATA(self, packet: bytes) -> None:
        """What a program says on its stderr: there is none here, but the window is used."""
        stream = self._of(packet)
        if stream is not None:
            self.open_window(stream.far_number, int.from_bytes(packet[8:12], "big"))

    def ssh_CHANNEL_WINDOW_ADJUST(self, packet: bytes) -> None:
        """A channel may send more."""
        stream = self._of(packet)
        if stream is not None:
            stream.window_opened(int.from_bytes(packet[4:8], "big"))

    def ssh_CHANNEL_EOF(self, packet: bytes) -> None:
        """The far side of a channel sends no more."""
        stream = self._of(packet)
        if stream is not None:
            stream.end_received()

    def ssh_CHANNEL_CLOSE(self, packet: bytes) -> None:
        """A channel is closed from the far side, or that side has seen our close."""
        number = int.from_bytes(packet[:4], "big")
        stream = self._of(packet)
        self._closing.discard(number)
        if stream is not None:
            stream.close_received()

    def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
        """The server wants a channel to us: no."""
        far = getNS(packet)[1][:4]
        code = ADMINISTRATIVELY_PROHIBITED.to_bytes(4, "big")
        no = NS(b"no channels to here") + NS(b"")
        self._answer(CHANNEL_OPEN_FAILURE, far + code + no)

    def ssh_CHANNEL_REQUEST(self, packet: bytes) -> None:
        """The server wants something of a channel: no."""
        _, rest = getNS(packet[4:])
        stream = self._of(packet)
        if stream is not None and rest[:1] != b"\0":
            self._answer(CHANNEL_FAILURE, stream.far_number)

    def ssh_GLOBAL_REQUEST(self, packet: bytes) -> None:
        """The server wants something: no (which is also how it hears that we live)."""
        _, rest = getNS(packet)
        if rest[:1] != b"\0":
            self._answer(REQUEST_FAILURE, b"")

    def _answer(self, kind: int, payload: bytes) -> None:
        """Say no; to one who asks and asks, and takes no answer, no more."""
        self._unsent = 0 if self.writable else self._unsent + 1
        if self._unsent > MOST_ANSWERS:
            raise ProtocolError("it asks more than it takes answers")
        self._client.sendPacket(kind, payload)

    def _of(self, packet: bytes) -> SshStream | None:
        number = int.from_bytes(packet[:4], "big")
        stream = self._streams.get(number)
        if stream is None and number not in self._closing:
            raise ProtocolError("a message for a channel that is not open")
        return stream

    # -- signs of life

    def ask_for_life(self) -> None:
        """Ask something that the server must answer, if only with no (as OpenSSH's client does)."""
        self._asked.append(self._clock.seconds())
        self._client.sendPacket(GLOBAL_REQUEST, NS(b"keepalive@openssh.com") + b"\1")

    def ssh_REQUEST_SUCCESS(self, packet: bytes) -> None:
        """An answer."""
        if self._asked:
            took = self._clock.seconds() - self._asked.popleft()
            self.round_trip = min(self.round_trip, took)

    ssh_REQUEST_FAILURE = ssh_REQUEST_SUCCESS

    # -- what goes

    @property
    def writable(self) -> bool:
        """Whether the connection takes a packet of data now."""
        return not (self._full or self._held)

    def send_data(self, far_number: bytes, size: int, data: bytes | memoryview) -> None:
        """Send data of a channel; only while L{writable}."""
        client = self._client
        client.seal(b"\x5e" + far_number + size.to_bytes(4, "big"), data)
        if client.sealed >= BATCH:
            client.flush()

    def open_window(self, far_number: bytes, size: int) -> None:
        """Let the far side send more."""
        self._client.sendPacket(CHANNEL_WINDOW_ADJUST, far_number + size.to_bytes(4, "big"))

    def flush(self) -> None:
        """All data of a channel that may go is sent: hand it to the socket."""
        self._client.flush()

    def send_end(self, far_number: bytes) -> None:
        """Say that a channel sends no more."""
        self._client.sendPacket(CHANNEL_EOF, far_number)

    def close(self, stream: SshStream) -> None:
        """Close a channel; it gets nothing more."""
        self.last_bytes.forget(stream)
        if self._streams.pop(stream.number, None) is not None and not self.why_lost:
            if not stream.closed_by_far:
                self._closing.add(stream.number)
            self._client.sendPacket(CHANNEL_CLOSE, stream.far_number)

    def wait_for_turn(self, stream: SshStream) -> None:
        """Have a stream's L{turn<SshStream.turn>} called when the connection takes bytes again."""
        if not stream.queued:
            stream.queued = True
            self._turns.append(stream)

    def now(self) -> float:
        """Seconds on the connection's clock."""
        return self._clock.seconds()

    def call_soon(self, call: Callable[..., object], *arguments: object) -> None:
        """Have something called in the next turn of the reactor."""
        self._clock.callLater(0, call, *arguments)

    def hold(self) -> None:
        """Keys are being exchanged: no data."""
        self._held = True

    def go_on(self) -> None:
        """Keys are exchanged."""
        self._held = False
        self._take_turns()

    def pauseProducing(self) -> None:
        """The connection has enough to send."""
        self._full = True
        if self.saturated_since is None:
            self.saturated_since = self._clock.seconds()

    def resumeProducing(self) -> None:
        """The connection takes bytes again: a packet for each who waits, in turns."""
        self._full = False
        self._take_turns()
        if not self._full:
            self.saturated_since = None

    def stopProducing(self) -> None:
        """The connection is lost; L{lost} says why."""

    def _take_turns(self) -> None:
        turns = self._turns
        while turns and self.writable:
            stream = turns.popleft()
            stream.queued = False
            if stream.turn():
                self.wait_for_turn(stream)
        self._client.flush()

    # -- life

    def serviceStarted(self) -> None:
        """Logged in: mind how much the connection takes."""
        transport: Any = self._client.transport
        transport.registerProducer(self, True)

    def lost(self, why: str) -> None:
        """The connection is gone: tell all who use it, and whoever watches."""
        self.why_lost = why
        self.last_bytes.stop()
        opening, self._opening = list(self._opening.values()), {}
        streams, self._streams = list(self._streams.values()), {}
        self._turns.clear()
        for one in opening:
            if not one.done.called:
                one.done.errback(WayLost(DialFailure.LOST, f"{one.stream.target}: {why}"))
        for stream in streams:
            stream.lost(why)
        self.gone.callback(why)

    def suspect(self) -> None:
        """Somebody waits in vain; see whether the server is there."""
        self._client.suspect()

    def disconnect(self) -> None:
        """Hang up in order."""
        self._client.close()
