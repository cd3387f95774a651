"""
Message borders of one direction of an established PostgreSQL session.

A L{Scanner} looks at the 5-byte header of each message (PostgreSQL protocol
chapter, "Message Flow") in chunks cut anywhere, and hands on only the kinds
that its mask asks for. It never holds a message: what it has seen may be sent
on at once. What the messages mean is L{proxyd.wire.pg.flow}'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct

from proxyd.wire.pg.errors import PgProtocolError

PASS, DATA, MARK, HEADER, BODY, READY, STOP, REFUSE = range(8)
"""
What a mask says of a kind of message: pass it unseen; the same, and don't
remember it as the last one (DATA); hand on its kind, and don't remember it
(MARK); hand on its kind; hand on its kind and the start of its body; the same
for ReadyForQuery, whose body is one byte; send nothing from here on; no such
message may come here.
"""

SMALL = 10_000
LARGE = 0x3FFFFFFE
"""
The greatest length fields that PostgreSQL takes from a client: of messages that
are always small, and of the others (libpq.h, PQ_SMALL_MESSAGE_LIMIT and
PQ_LARGE_MESSAGE_LIMIT).
"""

_HEADER = Struct(">Bi")
_unpack = _HEADER.unpack_from

Mask = tuple[int, ...]
"""One action for each of the 256 kinds. (No bytes: looking into a tuple is quicker.)"""

OnMessage = Callable[[int, bytes, int], None]
"""C{(kind, start of the body, length of the whole body)}."""


def mask(actions: Mapping[str, int], default: int = REFUSE) -> Mask:
    """
    Make a mask: one action for each of the 256 possible kinds.

    @param actions: message kinds (the protocol's letters, several in one
        string) and what is to be done with them
    @param default: the action for every kind not named
    """
    table = [default] * 256
    for kinds, action in actions.items():
        for kind in kinds.encode("ascii"):
            table[kind] = action
    return tuple(table)


_NOTHING = mask({}, STOP)


def _no_ready(status: int) -> None:
    """For masks without READY."""


def _no_message(kind: int, body: bytes, length: int) -> None:
    """Takes what nobody wants."""


def _no_stop() -> None:
    """Is not told to anybody."""


class Scanner:
    """
    Finds the messages in one direction of a session.

    Give it each chunk as it comes, by L{scan}; it says how much of the chunk
    may be sent on. Less than all of it means one of two things: the chunk
    ended inside a header, then keep the rest and put it in front of the next
    chunk; or L{stopped} is set, then nothing more of this direction may be
    sent on.

    @ivar mask: one action per kind; may be exchanged between two messages, by
        the receiver of a message too
    @ivar last: the kind of the last message that began and was not one of
        DATA or MARK, 0 before the first; for the receiver of a message: the
        one before it
    @ivar stopped: a STOP kind came; what follows it is not looked at
    @ivar error: what was wrong with the message at which the scan stopped
    """

    __slots__ = (
        "_before",
        "_body",
        "_kind",
        "_length",
        "_limit",
        "_need",
        "_on_message",
        "_on_ready",
        "_on_stop",
        "_small",
        "error",
        "last",
        "mask",
        "side",
        "stopped",
    )

    def __init__(
        self,
        side: str,
        table: Mask,
        on_message: OnMessage,
        on_stop: Callable[[], None],
        limit: int,
        on_ready: Callable[[int], None] = _no_ready,
        small: frozenset[int] | None = None,
    ) -> None:
        """
        @param side: who sends these messages, for the text of an error:
            C{frontend} or C{backend}
        @param table: a mask made by L{mask}
        @param on_message: called for each message that the mask asks for,
            when its body (or the start of it, up to the limit) is complete
        @param on_stop: called when the scan stops for good
        @param on_ready: called for each READY message that is whole and has one
            byte of body, with that byte; others of that kind go to C{on_message}
        @param small: the kinds that can't be longer than L{SMALL}, where the
            others can't be longer than L{LARGE}; None: there is no such bound
        @param limit: how many bytes of a body are handed on at most
        """
        self.mask = table
        self.side = side
        self.last = 0
        self.stopped = False
        self.error: PgProtocolError | None = None
        self._on_message = on_message
        self._on_stop = on_stop
        self._on_ready = on_ready
        self._small = small
        self._limit = limit
        self._need = 0
        self._before = 0
        self._kind = 0
        self._length = 0
        self._body: bytearray | None = None

    @property
    def at_border(self) -> bool:
        """Whether the last byte seen was the last one of a message."""
        return self._need == 0

    @property
    def left(self) -> int:
        """How many bytes of the message under way have not come yet."""
        return self._need

    def refuse(self, error: PgProtocolError) -> None:
        """
        Stop at the next message, whatever it is; for the receiver of a message.

        @param error: why
        """
        self.error = error
        self.mask = _NOTHING

    def let_go(self) -> None:
        """Call nobody any more: whoever was called may be gone now."""
        self._on_message = _no_message
        self._on_stop = _no_stop
        self._on_ready = _no_ready

    def scan(self, data: bytes | bytearray | memoryview, size: int) -> int:
        """
        Look at the next bytes.

        @param data: a buffer that starts with them
        @param size: how many of its bytes count
        @return: how many of them may be sent on
        """
        at = self._need
        if at:
            if self._body is not None:
                self._collect(data, min(at, size))
            if at >= size:
                self._need = at - size
                return size
            self._need = 0
        table = self.mask
        kind = self.last
        end = size - 4
        while at < end:
            next_kind, length = _unpack(data, at)
            action = table[next_kind]
            if not action and 4 <= length <= SMALL:
                kind = next_kind
                at += 1 + length
                continue
            if action == READY and length == 5 and at + 6 <= size:
                self.last = kind
                ready = self._on_ready
                ready(data[at + 5])
                kind = next_kind
                table = self.mask
                at += 6
                continue
            if (
                length < 4
                or action >= STOP
                or (length > SMALL and self._too_long(next_kind, length))
            ):
                self.last = kind
                self._stop(next_kind, length)
                return at
            if not action:
                kind = next_kind
            elif action != DATA:
                self.last = kind
                if action <= HEADER:
                    tell = self._on_message
                    tell(next_kind, b"", length - 4)
                else:
                    self._begin(next_kind, length - 4, data, at + 5, size)
                if action != MARK:
                    kind = next_kind
                table = self.mask
            at += 1 + length
        self.last = kind
        if at > size:
            self._need = at - size
            return size
        return at

    def _too_long(self, kind: int, length: int) -> bool:
        """Whether a message of this kind can't have this length."""
        small = self._small
        return small is not None and length > (SMALL if kind in small else LARGE)

    def _stop(self, kind: int, length: int) -> None:
        """End the scan at a message that must not be sent on."""
        if self.stopped:
            return
        self.stopped = True
        if self.mask[kind] == REFUSE:
            self.error = PgProtocolError(f"invalid {self.side} message type {kind}")
        elif length < 4 or self._too_long(kind, length):
            self.error = PgProtocolError("invalid message length")
        self.mask = _NOTHING
        self._on_stop()

    def _begin(
        self, kind: int, length: int, data: bytes | bytearray | memoryview, at: int, size: int
    ) -> None:
        """Hand on a message's body, or begin to collect one that goes on in the next chunk."""
        wanted = min(length, self._limit)
        have = bytes(data[at : min(at + wanted, size)])
        if len(have) == wanted:
            self._on_message(kind, have, length)
        else:
            self._before = self.last
            self._kind, self._length, self._body = kind, length, bytearray(have)

    def _collect(self, data: bytes | bytearray | memoryview, size: int) -> None:
        """Take more of the body that is being collected."""
        body = self._body
        assert body is not None
        wanted = min(self._length, self._limit)
        body += data[: min(size, wanted - len(body))]
        if len(body) == wanted:
            self._body = None
            last, self.last = self.last, self._before
            self._on_message(self._kind, bytes(body), self._length)
            self.last = last
