"""
Skipping what a client asked for after it was told no.

When a request is refused before any server saw it, the rest of it must be
thrown away as PostgreSQL itself does: a Query or FunctionCall is one message;
an extended batch goes on up to its Sync (protocol chapter, "Extended Query").
"""

from __future__ import annotations

from struct import Struct

from proxyd.wire.pg.errors import PgProtocolError

_HEADER = Struct(">Bi")
_SIMPLE = b"QF"
_SYNC, _TERMINATE = b"SX"
_IGNORED = b"dcf"
"""Copy messages outside a COPY: the late end of an earlier one."""


class BatchSkip:
    """
    Takes a client's bytes until the refused request is over.

    @ivar done: it is; answer with ReadyForQuery, and go on with C{trailing_data}
    @ivar terminated: the client said goodbye instead
    @ivar trailing_data: what came behind the request
    """

    def __init__(self) -> None:
        self.done = False
        self.terminated = False
        self.trailing_data = b""
        self._need = 0
        self._extended = False
        self._last_body = False
        self._head = b""

    def receive_data(self, data: bytes) -> None:
        """
        Take bytes, in chunks of any size.

        @raise PgProtocolError: a message has an impossible length
        """
        data = self._head + data
        self._head = b""
        at = 0
        while not self.done:
            taken = min(self._need, len(data) - at)
            at += taken
            self._need -= taken
            if self._need:
                return
            if self._last_body:
                self.done = True
                break
            if len(data) - at < 5:
                self._head = data[at:]
                return
            kind, length = _HEADER.unpack_from(data, at)
            if length < 4:
                raise PgProtocolError("invalid message length")
            if kind == _TERMINATE:
                self.done = self.terminated = True
                return
            at += 5
            self._need = length - 4
            self._last_body = kind == _SYNC or (kind in _SIMPLE and not self._extended)
            self._extended = self._extended or kind not in _IGNORED
        self.trailing_data = data[at:]
