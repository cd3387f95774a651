"""
The SSM agent of an instance, for tests: its end of a session's channel, and real TCP behind it.

Written from the agent's behaviour as it was measured: what it sends when, what
it acknowledges when, and what it can't say. It misbehaves as L{Manners} says.
"""

from __future__ import annotations

import json
import os
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol

from proxyd.errors import ProtocolError
from proxyd.wire.ssm import message as wire
from proxyd.wire.ssm.channel import TICK, Channel

SMUX = struct.Struct("<BBHI")
FRAME = 1024
REFUSED_LATER = (
    "document process failed unexpectedly: ipc messaging received timeout signal , "
    "check [ssm-document-worker]/[ssm-session-worker] log for crash reason"
)


@dataclass
class Manners:
    """
    How an instance behaves.

    @ivar alive: whether it is online
    @ivar handshake_delay: seconds before its hand-shake
    @ivar mute: it never shakes hands
    @ivar deaf_port: the port is silent: nothing ever comes from it
    @ivar paced: it sleeps 1 ms for each 1024 bytes, as the real one does
    @ivar names: what names it can look up, and to what
    @ivar ports: port 22 of the instance, and others, as they are here
    @ivar wrong_digests: its frames' digests are wrong
    @ivar request: the hand-shake's actions, instead of its own
    """

    alive: bool = True
    version: str = "3.3.987.0"
    handshake_delay: float = 0.0
    mute: bool = False
    deaf_port: bool = False
    paced: bool = False
    wrong_digests: bool = False
    names: dict[str, str] = field(default_factory=lambda: {"localhost": "127.0.0.1"})
    ports: dict[int, int] = field(default_factory=dict)
    request: list[Any] | None = None


class TargetSide(Protocol):
    """A TCP connection to a target."""

    def __init__(self, session: AgentSession, number: int) -> None:
        self.session = session
        self.number = number
        self.clogged = False
        self.data: deque[bytes] = deque()
        self.paused = False
        self.ended = False

    @property
    def tcp(self) -> Any:
        """Its transport."""
        return self.transport

    def connectionMade(self) -> None:
        """Connected."""
        self.tcp.setTcpNoDelay(True)
        self.tcp.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """The target does not take more."""
        self.clogged = True

    def resumeProducing(self) -> None:
        """It does again."""
        self.clogged = False
        self.session.take_inbox()

    def stopProducing(self) -> None:
        """It is gone."""
        self.clogged = False

    def dataReceived(self, data: bytes) -> None:
        """The target said something."""
        size = FRAME if self.session.basic else FRAME - SMUX.size
        self.data += (data[start : start + size] for start in range(0, len(data), size))
        self.session.pump()

    def hold(self, held: bool) -> None:
        """Read no more from it, or go on."""
        if held != self.paused:
            self.paused = held
            (self.tcp.pauseProducing if held else self.tcp.resumeProducing)()

    def connectionLost(self, reason: object = None) -> None:
        """The target has closed."""
        self.clogged = False
        self.ended = True
        self.session.pump()
        self.session.take_inbox()


class AgentSession:
    """
    One session, at the agent's end.

    @ivar to_client: sends a frame toward the client, if it is there
    @ivar away: its own socket to the relay is gone, for now
    """

    def __init__(
        self,
        session_id: str,
        document: str,
        parameters: dict[str, str],
        manners: Manners,
        to_client: Callable[[AgentSession, bytes], None],
    ) -> None:
        self.session_id = session_id
        self.document = document
        self.parameters = parameters
        self.manners = manners
        self.to_client = to_client
        self.channel = Channel(
            lambda: os.urandom(16), 1.7e9, ours=wire.OUTPUT, theirs=wire.INPUT, window=1 << 20
        )
        self.basic = document == "AWS-StartSSHSession"
        self.targets: dict[int, TargetSide] = {}
        self.over = self.away = False
        self.began = False
        self.ready = False
        self.client_clogged = False
        self.inbox: deque[bytes] = deque()
        self._clock = IReactorTime(reactor)
        self._tick: Any = None
        self._sleep: Any = None
        self._smux = b""
        self._dialling = 0

    # -- its beginning

    def begin(self) -> None:
        """The client has come."""
        if self.began or self.manners.mute:
            return
        self.began = True
        self._clock.callLater(self.manners.handshake_delay, self._shake)

    def _shake(self) -> None:
        if self.over:
            return
        properties = dict(self.parameters)
        if not self.basic:
            properties["type"] = "LocalPortForwarding"
        actions = self.manners.request or [
            {
                "ActionType": "SessionType",
                "ActionParameters": {"SessionType": "Port", "Properties": properties},
            }
        ]
        asked = {"AgentVersion": self.manners.version, "RequestedClientActions": actions}
        self._say(wire.HANDSHAKE_REQUEST, json.dumps(asked).encode())

    def _answered(self, payload: bytes) -> None:
        done = json.loads(payload)
        if any(one["ActionStatus"] != 1 for one in done["ProcessedClientActions"]):
            self.close("\n----------ERROR-------\nEncountered error while initiating handshake.")
            return
        said = b'{"HandshakeTimeToComplete":1500000,"CustomerMessage":""}'
        self._say(wire.HANDSHAKE_COMPLETE, said)
        host = self.parameters.get("host", "localhost")
        if host.startswith("169.254."):
            self.close(f"Forwarding to IP address {host} is forbidden.")
        elif not self.basic and self._address(host) is None:
            self.close(f"lookup {host} on 10.0.0.2:53: no such host")
        elif self.basic:
            self._dial(0)
        else:
            self.ready = True

    def _address(self, host: str) -> str | None:
        known = self.manners.names.get(host)
        return known or (host if host.replace(".", "").isdigit() else None)

    def _dial(self, number: int) -> None:
        host = self._address(self.parameters.get("host", "localhost")) or "127.0.0.1"
        port = int(self.parameters["portNumber"])
        port = self.manners.ports.get(port, port)
        endpoint = TCP4ClientEndpoint(reactor, host, port, timeout=10)  # type: ignore[no-untyped-call]
        side = TargetSide(self, number)
        self._dialling += 1
        dialling = endpoint.connect(Factory.forProtocol(lambda: side))  # type: ignore[arg-type]
        dialling.addCallbacks(self._dialled, self._not_dialled, (side,), None, (number,))

    def _dialled(self, _: object, side: TargetSide) -> None:
        self._dialling -= 1
        if self.over:
            side.tcp.abortConnection()
            return
        self.targets[side.number] = side
        self.ready = True
        self.take_inbox()

    def _not_dialled(self, _: object, number: int) -> None:
        self._dialling -= 1
        if self.basic:
            # The real one's worker dies without a word; its parent tells after a minute.
            self._sleep = self._clock.callLater(60, self.close, REFUSED_LATER)
        else:
            self._say(wire.FLAG, wire.CONNECT_TO_PORT_ERROR.to_bytes(4, "big"))
            self._say(wire.DATA, SMUX.pack(1, 1, 0, number))
            self.take_inbox()

    # -- from the client

    def receive(self, *frames: bytes) -> None:
        """Frames of the client's."""
        if self.over:
            return
        self.inbox += frames
        self.take_inbox()

    def take_inbox(self) -> None:
        """Take frames as long as the targets do: what is not taken is not acknowledged."""
        took = False
        while self.inbox and not self.over:
            if any(one.clogged for one in self.targets.values()) or (
                self._dialling and not self.basic
            ):
                break
            data = self.inbox.popleft()
            if not self.ready and wire.parse(data).payload_type == wire.DATA:
                continue  # not acknowledged: it comes again
            try:
                found = self.channel.receive(data, self._clock.seconds())
            except ProtocolError:
                continue  # an answer to what a hostile relay made up
            took = True
            for payload_type, payload in found:
                self._take(payload_type, payload)
                if self.over:
                    return
        if took:
            self.pump()

    def _take(self, payload_type: int, payload: bytes) -> None:
        if payload_type == wire.HANDSHAKE_RESPONSE:
            self._answered(payload)
        elif payload_type == wire.FLAG:
            self.close("")
        elif payload_type == wire.DATA:
            if self.basic:
                if 0 in self.targets and not self.manners.deaf_port:
                    self.targets[0].tcp.write(payload)
            else:
                self._demux(payload)

    def _demux(self, payload: bytes) -> None:
        self._smux += payload
        while len(self._smux) >= 8:
            version, command, length, number = SMUX.unpack_from(self._smux)
            if version != 1:
                self.close("smux: invalid protocol")
                return
            if len(self._smux) < 8 + length:
                return
            data, self._smux = self._smux[8 : 8 + length], self._smux[8 + length :]
            side = self.targets.get(number)
            if command == 0:
                self._dial(number)
            elif command == 1 and side is not None:
                del self.targets[number]
                side.tcp.loseConnection()
            elif command == 2 and side is not None:
                side.tcp.write(data)

    # -- to the client

    def _say(self, payload_type: int, payload: bytes) -> None:
        self.channel.send(payload_type, payload, self._clock.seconds())
        self.flush()

    def pump(self) -> None:
        """Send what the targets said, as far as the client takes it."""
        if self.over:
            return
        if self.manners.paced:
            if self._sleep is None:
                self._paced()
            return
        for side in list(self.targets.values()):
            while side.data and self._room():
                self._send_piece(side)
            side.hold(bool(side.data))
            self._look_end(side)
        self.flush()

    def _room(self) -> bool:
        return self.channel.room > 0 and not self.client_clogged

    def _paced(self) -> None:
        self._sleep = None
        for side in list(self.targets.values()):
            if side.data and self._room():
                self._send_piece(side)
                self._sleep = self._clock.callLater(0.001, self._paced)
            side.hold(len(side.data) > 4)
            self._look_end(side)
        self.flush()

    def _send_piece(self, side: TargetSide) -> None:
        data = side.data.popleft()
        if not self.basic:
            data = SMUX.pack(1, 2, len(data), side.number) + data
        if not self.manners.deaf_port:
            self.channel.send_data(data, self._clock.seconds())

    def _look_end(self, side: TargetSide) -> None:
        if side.ended and not side.data and self.targets.pop(side.number, None) is not None:
            if self.basic:
                self._end_when_taken()
            else:
                self.channel.send(wire.DATA, SMUX.pack(1, 1, 0, side.number), self._clock.seconds())

    def _end_when_taken(self) -> None:
        if self.channel.under_way and not self.over:
            self._clock.callLater(0.02, self._end_when_taken)
        else:
            self.close("")

    def flush(self) -> None:
        """Send all frames that wait."""
        for data in self.channel.messages_to_send():
            if self.manners.wrong_digests:
                data = data[:80] + bytes(32) + data[112:]
            self.to_client(self, data)
        if self.channel.under_way and self._tick is None and not self.over:
            self._tick = self._clock.callLater(TICK, self._look)

    def resumed(self) -> None:
        """It has another socket to the relay."""
        if not self.over:
            self.channel.resumed(self._clock.seconds())
            self.flush()

    def _look(self) -> None:
        self._tick = None
        self.channel.tick(self._clock.seconds())
        self.flush()
        self.pump()

    # -- its end

    def close(self, said: str) -> None:
        """It is over; the service says so to the client, with its short header."""
        if self.over:
            return
        text = json.dumps({"MessageType": "channel_closed", "Output": said}).encode()
        self.flush()
        self.to_client(self, closing_frame(text))
        self.end()

    def end(self) -> None:
        """Everything is dropped, without a word."""
        self.over = True
        for call in (self._tick, self._sleep):
            if call is not None and call.active():
                call.cancel()
        for side in self.targets.values():
            side.tcp.loseConnection()
            side.hold(False)
        self.targets.clear()


def closing_frame(payload: bytes) -> bytes:
    """C{channel_closed} as the service makes it: a header of 112 bytes, padded with NUL."""
    frame = wire.build(wire.CHANNEL_CLOSED, 0, 0, os.urandom(16), 1, 0, payload)
    kind = b"channel_closed".ljust(32, b"\0")
    return b"\0\0\0\x70" + kind + frame[36:112] + len(payload).to_bytes(4, "big") + payload
