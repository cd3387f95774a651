"""
Many streams over one agent's WebSocket, by JSON text messages: level 0, C{proxyd.json.v1}.

An agent of an afternoon's work speaks this. There is no credit and no
half-close: C{proxy_disconnect} ends both directions. An agent that says
C{proxy_window} is sent no more than that; C{proxy_connected} tells that a dial
is done, and an agent that never says so counts as connected at once.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.agent import events as told
from proxyd.wire.agent.events import Event
from proxyd.wire.agent.frames import Code
from proxyd.wire.agent.outbox import CONTROL_LIMIT
from proxyd.wire.agent.stream import USUAL, Limits

SUBPROTOCOL = "proxyd.json.v1"
"""The WebSocket subprotocol; an agent that offers none speaks this, too."""

CHUNK = 48 * 1024
"""Bytes of data in one message at most: 64 KiB of base64."""

_REASONS = {
    "refused": Code.REFUSED,
    "unreachable": Code.UNREACHABLE,
    "timeout": Code.TIMEOUT,
    "name": Code.NAME,
    "denied": Code.DENIED,
    "limit": Code.LIMIT,
    "reset": Code.RESET,
    "gone": Code.GONE,
    "slow": Code.SLOW,
    "idle": Code.IDLE,
}
_WORDS = {code: word for word, code in _REASONS.items()}
_ERRORS = {
    "ECONNREFUSED": Code.REFUSED,
    "EHOSTUNREACH": Code.UNREACHABLE,
    "ENETUNREACH": Code.UNREACHABLE,
    "ETIMEDOUT": Code.TIMEOUT,
    "ENOTFOUND": Code.NAME,
    "EAI_AGAIN": Code.NAME,
    "EACCES": Code.DENIED,
    "ECONNRESET": Code.RESET,
    "EPIPE": Code.RESET,
}
"""The same by the names of errno(3), as Node and others have them at hand."""


class _Stream:
    """One user's connection."""

    __slots__ = ("finishing", "opened", "proxy_id", "queue", "queued", "user_id", "window")

    def __init__(self, proxy_id: str, user_id: str) -> None:
        self.proxy_id = proxy_id
        self.user_id = user_id
        self.opened = False
        self.window: int | None = None
        self.queue: deque[bytes] = deque()
        self.queued = 0
        self.finishing = False


class JsonSession:
    """
    The server's side of a session with a simple agent.

    Its verbs, its events and how it is used are those of
    L{Mux<proxyd.wire.agent.mux.Mux>}; its messages are text.

    @ivar confirms: whether the agent has ever said C{proxy_connected}: only
        then is it known that a dial was done
    """

    def __init__(self, limits: Limits = USUAL, confirms: bool = False) -> None:
        """@param confirms: the agent is known to say C{proxy_connected}"""
        self.limits = limits
        self._streams: dict[int, _Stream] = {}
        self._by_user: dict[str, int] = {}
        self._next = 2
        self._outbox: deque[str] = deque()
        self._outbox_size = 0
        self._waiting: deque[int] = deque()
        self._events: list[Event] = []
        self.confirms = confirms
        self.round_trip = 0.0

    @property
    def streams_open(self) -> int:
        """How many streams there are."""
        return len(self._streams)

    @property
    def full(self) -> bool:
        """Whether no more can be opened now."""
        return len(self._streams) >= self.limits.streams

    @property
    def room(self) -> int:
        """Bytes that may wait to be sent on a stream."""
        return CHUNK

    @property
    def pending(self) -> bool:
        """Whether there is something to send."""
        return bool(self._outbox or self._waiting)

    @property
    def overrun(self) -> bool:
        """Whether the agent reads so little that the session has to end."""
        return self._outbox_size > CONTROL_LIMIT

    def open(self, fields: Mapping[str, Any], now: float, compress: bool = False) -> int:
        """
        Ask for a stream by C{proxy_connect}.

        @raise LocalProtocolError: it is L{full}
        """
        if self.full:
            raise LocalProtocolError("no stream can be opened")
        number, self._next = self._next, self._next + 2
        stream = _Stream(str(fields.get("proxy_id", "")), str(fields.get("user_id") or number))
        self._streams[number] = stream
        self._by_user[stream.user_id] = number
        self._say(
            {
                "type": "proxy_connect",
                "proxy_id": stream.proxy_id,
                "user_id": stream.user_id,
                "remote_host": fields.get("remote_host"),
                "remote_port": fields.get("remote_port"),
                "protocol": fields.get("protocol", "tcp"),
            }
        )
        if not self.confirms:
            stream.opened = True
            self._events.append(told.Opened(number))
        return number

    def send(self, number: int, data: bytes) -> bool:
        """Send on a stream; False: it is full, wait for its Writable."""
        stream = self._streams.get(number)
        if stream is None:
            return True  # its end is among the events
        if stream.finishing:
            raise LocalProtocolError("a stream that was finished sends no more")
        if data:
            if not stream.queue:
                self._waiting.append(number)
            stream.queue.append(data)
            stream.queued += len(data)
        return stream.queued <= CHUNK

    def finish(self, number: int) -> None:
        """End both directions, after what is queued: JSON knows no half-close."""
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.finishing = True
        if not stream.queue:
            self._disconnect(number, "eof")

    def reset(self, number: int, code: Code, text: str = "") -> None:
        """Give a stream up; what is queued is not sent."""
        if number in self._streams:
            self._disconnect(number, _WORDS.get(code, text or code.name.lower()))

    def queued_on(self, number: int) -> int | None:
        """Bytes of a stream that wait to be sent; None: it is gone."""
        stream = self._streams.get(number)
        return None if stream is None else stream.queued

    def consumed(self, number: int, count: int, now: float) -> None:
        """Bytes have gone on; nobody is told, JSON knows no credit."""

    def ping(self, now: float) -> None:
        """The WebSocket's own pings do it."""

    def go_away(self, code: Code, text: str = "") -> None:
        """Tell the agent why its session ends."""
        self._say({"type": "goaway", "reason": text or code.name.lower()})

    def next_message(self, room: int = 64 * 1024) -> str:
        """The next text message to send; empty when there is nothing."""
        while not self._outbox and self._waiting:
            number = self._waiting.popleft()
            stream = self._streams.get(number)
            if stream is not None:
                self._turn(number, stream)
        if not self._outbox:
            return ""
        text = self._outbox.popleft()
        self._outbox_size -= len(text)
        return text

    def _turn(self, number: int, stream: _Stream) -> None:
        """Let a stream send one message, then it is the next one's turn."""
        if not stream.queue:
            return  # it had two turns: its window was widened while it waited for one
        data = stream.queue[0]
        take = min(len(data), CHUNK)
        if stream.window is not None:
            if stream.window <= 0:
                stream.window = min(stream.window, 0)
                return  # until the agent says how much more
            take = min(take, stream.window)
            stream.window -= take
        if take == len(data):
            stream.queue.popleft()
        else:
            stream.queue[0], data = data[take:], data[:take]
        was, stream.queued = stream.queued, stream.queued - take
        self._say(
            {
                "type": "proxy_data",
                "proxy_id": stream.proxy_id,
                "user_id": stream.user_id,
                "data": base64.b64encode(data).decode("ascii"),
            }
        )
        if stream.queue:
            self._waiting.append(number)
        elif stream.finishing:
            self._disconnect(number, "eof")
            return
        if was > CHUNK >= stream.queued:
            self._events.append(told.Writable(number))

    def receive_message(self, message: str, now: float) -> None:
        """
        Take a text message; unknown types are ignored, and so are streams that are gone.

        @raise ProtocolError: it is no such message
        """
        try:
            fields = json.loads(message)
        except (ValueError, RecursionError):
            raise ProtocolError("a text message that is no JSON") from None
        if not isinstance(fields, dict):
            raise ProtocolError("a text message that is no JSON object")
        number = self._by_user.get(str(fields.get("user_id")))
        stream = None if number is None else self._streams[number]
        kind = fields.get("type")
        if number is None or stream is None or stream.proxy_id != str(fields.get("proxy_id")):
            return
        if kind == "proxy_data":
            self._events.append(told.Data(number, (_decoded(fields.get("data")),)))
        elif kind == "proxy_connected":
            self.confirms = True
            if not stream.opened:
                stream.opened = True
                self._events.append(told.Opened(number))
        elif kind == "proxy_window":
            self._widen(number, stream, fields)
        elif kind == "proxy_disconnect":
            self._ended(number, stream, fields.get("reason"))

    def take_events(self) -> list[Event]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def _widen(self, number: int, stream: _Stream, fields: Mapping[str, Any]) -> None:
        """The agent says how many bytes it may still be sent."""
        window = fields.get("window", fields.get("bytes"))
        if type(window) is not int or not 0 <= window < 2**31:
            raise ProtocolError("a proxy_window without a number of bytes")
        stalled = stream.window is not None and stream.window <= 0 and bool(stream.queue)
        stream.window = window
        if stalled and window:
            self._waiting.append(number)

    def _ended(self, number: int, stream: _Stream, reason: object) -> None:
        """The agent has closed a stream."""
        word = reason if isinstance(reason, str) else ""
        code = _REASONS.get(word, _ERRORS.get(word))
        self._forget(number)
        if not stream.opened:
            self._events.append(told.OpenFailed(number, code or Code.REFUSED, word[:1024]))
        elif code is not None:
            self._events.append(told.WasReset(number, code, word))
        else:
            self._events.append(told.Finished(number))
            self._events.append(told.Closed(number))

    def _disconnect(self, number: int, reason: str) -> None:
        """Close a stream from here."""
        stream = self._streams[number]
        self._forget(number)
        self._say(
            {
                "type": "proxy_disconnect",
                "proxy_id": stream.proxy_id,
                "user_id": stream.user_id,
                "reason": reason,
            }
        )
        if reason == "eof":
            self._events.append(told.Closed(number))

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number)
        del self._by_user[stream.user_id]
        stream.queue.clear()
        stream.queued = 0

    def _say(self, fields: Mapping[str, Any]) -> None:
        text = json.dumps(fields, separators=(",", ":"))
        self._outbox.append(text)
        self._outbox_size += len(text)


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise ProtocolError("proxy_data without data")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProtocolError("proxy_data that is no base64") from None
