"""
What each side of an established PostgreSQL session still owes the other.

From message headers alone (PostgreSQL protocol chapter, "Message Flow") a
L{Flow} knows the transaction status, whether the server has answered all it
was asked, and whether either side is in the middle of a message: what must be
known before a server connection may go to somebody else. Where headers can't
tell, it says so in L{Flow.doubt}, and the connection must be closed.

The marks of the queue: Query and FunctionCall (each answered by one
ReadyForQuery), Sync (the same, unless the server is in COPY IN and swallows
it), CopyDone and CopyFail (which end a COPY IN). A failing COPY IN with a Sync
in front of its CopyDone is the case nobody can count: an error on a data row
comes after the Sync was swallowed and gives one ReadyForQuery, an error in a
BEFORE STATEMENT trigger comes before it and gives two. Where such a COPY goes
well, its batch is still open after it: another Sync must come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from proxyd.errors import ProtocolError
from proxyd.wire.pg.errors import PgProtocolError
from proxyd.wire.pg.scanner import BODY, DATA, HEADER, MARK, PASS, READY, STOP, Scanner, mask

_QUERY, _SYNC, _FUNCTION_CALL = b"QSF"
_PARSE = ord("P")
_COPY_DONE, _COPY_FAIL = b"cf"
_READY_FOR_QUERY = ord("Z")
_COMMAND_COMPLETE = ord("C")
_COPY_IN_RESPONSE = ord("G")
_COPY_BOTH_RESPONSE = ord("W")
_ERROR_RESPONSE = ord("E")
_PARAMETER_STATUS = ord("S")

IDLE = ord("I")
_STATUSES = frozenset(b"ITE")
_ENDS_BATCH = frozenset(b"QSF") | {0}
_ENDS_COPY = frozenset(b"cf")
_REQUESTS = frozenset(b"QF")

_MARKS_LIMIT = 10_000
"""How many CopyDone and CopyFail of a client are remembered that no COPY has taken yet."""

OWED_LIMIT = 1_000_000
"""
How many requests may wait for their answers at a time.

More than stand in any buffer on the way to a server that reads them as it
works: only one that reads and never answers would be owed so many.
"""

_SMALL = frozenset(b"CDEHSXcf")

STATEMENT_LIMIT = 2048
"""How many bytes of a Query or Parse are handed on, for the log."""

MESSAGE_LIMIT = 8192
"""How many bytes of a server's ParameterStatus or ErrorResponse are handed on."""

_CLIENT = mask({"PBDEHC": PASS, "d": DATA, "QSF": HEADER, "cf": MARK, "X": STOP})
_CLIENT_STATEMENTS = mask(
    {"BDEHC": PASS, "d": DATA, "QP": BODY, "SF": HEADER, "cf": MARK, "X": STOP}
)
_SERVER = mask({"123ACDHINTVdcnst": PASS, "GW": HEADER, "ES": BODY, "Z": READY})
_SERVER_COPYING = mask({"123ADHINTVdcnst": PASS, "CGW": HEADER, "ES": BODY, "Z": READY})


def _nobody(body: bytes) -> None:
    """Takes what nobody wants."""


class Flow:
    """
    The bookkeeping of one client's session on one server connection.

    Scan what the client sends with L{client}, what the server sends with
    L{server}; after each chunk look at L{alert}.

    @ivar client: the scanner of what the client sends
    @ivar server: the scanner of what the server sends
    @ivar status: the transaction status the server told last: C{I}, C{T} or
        C{E}, as an int
    @ivar doubt: why this server connection must not be used again; empty when
        there is no reason
    @ivar alert: something happened that whoever joined the two must look at:
        L{client} or L{server} stopped, or, with L{watch} set, the server came
        to rest
    @ivar watch: say when the server comes to rest
    @ivar ready_count: how many ReadyForQuery have come: requests answered
    """

    __slots__ = (
        "_copying",
        "_early_sync",
        "_hurried",
        "_on_error",
        "_on_parameter",
        "_on_statement",
        "_owed",
        "_skipping",
        "_swallowed",
        "alert",
        "client",
        "doubt",
        "ready_count",
        "server",
        "status",
        "watch",
    )

    def __init__(
        self,
        on_parameter: Callable[[bytes], None],
        on_error: Callable[[bytes], None],
        on_statement: Callable[[int, bytes, int], None] | None = None,
    ) -> None:
        """
        @param on_parameter: takes the body of each ParameterStatus; a
            ProtocolError of its is a doubt
        @param on_error: takes the body (its start) of each ErrorResponse
        @param on_statement: takes kind, start of the body and its length for
            each Query and Parse; None when nobody wants to see them
        """
        self.client = Scanner(
            "frontend",
            _CLIENT if on_statement is None else _CLIENT_STATEMENTS,
            self._client_sent,
            self._stopped,
            STATEMENT_LIMIT,
            small=_SMALL,
        )
        self.server = Scanner(
            "backend", _SERVER, self._server_sent, self._stopped, MESSAGE_LIMIT, self._ready
        )
        self.status = IDLE
        self.doubt = ""
        self.alert = False
        self.watch = False
        self.ready_count = 0
        self._owed: deque[int] = deque()
        self._copying = False
        self._early_sync = False
        self._hurried = False
        self._swallowed = False
        self._skipping = False
        self._on_parameter = on_parameter
        self._on_error = on_error
        self._on_statement = on_statement

    def __repr__(self) -> str:
        owed = bytes(self._owed).decode("ascii")
        return f"<Flow status={chr(self.status)} owed={owed!r} doubt={self.doubt!r}>"

    @property
    def batch_open(self) -> bool:
        """Whether the client has begun an extended batch and not yet sent its Sync."""
        return self._swallowed or self._skipping or self.client.last not in _ENDS_BATCH

    @property
    def copying(self) -> bool:
        """Whether the server waits for data of a COPY IN that the client has not ended."""
        return self._copying and not any(mark in _ENDS_COPY for mark in self._owed)

    @property
    def answered(self) -> bool:
        """Whether the server owes no ReadyForQuery: all that was asked is answered."""
        owed = self._owed
        return not self._copying and (not owed or all(mark in _ENDS_COPY for mark in owed))

    @property
    def settled(self) -> bool:
        """Whether nobody owes anything, and neither side is in the middle of a message."""
        client = self.client
        # As L{batch_open} and L{answered}, and both at a border, in one call.
        return not (
            client._need
            or self.server._need
            or self._swallowed
            or self._skipping
            or client.last not in _ENDS_BATCH
            or self._copying
            or (self._owed and not self.answered)
        )

    @property
    def at_rest(self) -> bool:
        """Whether the session is between two transactions and nobody owes anything."""
        return self.status == IDLE and self.settled

    @property
    def reusable(self) -> bool:
        """Whether the server, once reset, may serve somebody else."""
        return not self.doubt and self.status == IDLE and self.settled

    def look_again(self) -> None:
        """
        Alert after the next chunk, where only the end of a message keeps the server from rest.

        It is one that comes by itself (a notification), so that no ReadyForQuery
        is to come behind it that would alert.
        """
        if self.answered and not self.server.at_border:
            self.alert = True

    def let_go(self) -> None:
        """
        The flow is over: hold nobody any more who holds it.

        Else they would keep each other until the garbage collector comes, and
        there is a flow for each session.
        """
        self.client.let_go()
        self.server.let_go()
        self._on_parameter = self._on_error = _nobody
        self._on_statement = None

    def _stopped(self) -> None:
        """One side's scan stopped: the client said goodbye, or one broke the protocol."""
        if self.server.stopped:
            self._doubts("the server broke the protocol")
        self.alert = True

    def _doubts(self, reason: str) -> None:
        """This connection must not be used again, and whoever waits for it may wait in vain."""
        self.doubt = self.doubt or reason
        if self.watch:
            self.alert = True

    def break_off(self) -> None:
        """The client sends no more, though its last message is not whole: nobody answers that."""
        if self.client.at_border:
            return
        if self._owed and self._owed[-1] == self.client.last:
            self._owed.pop()
        self._doubts("a message was left half sent")

    def _client_sent(self, kind: int, body: bytes, length: int) -> None:
        """Note what the server will have to answer."""
        owed = self._owed
        if len(owed) >= OWED_LIMIT:
            self.client.refuse(PgProtocolError("too many requests wait for answers", "54000"))
        if kind == _SYNC:
            owed.append(kind)
            self._swallowed = self._skipping = False
            if self._copying:
                self._early_sync = self._sync_before_end()
        elif kind in _REQUESTS:
            if self._skipping:
                return
            owed.append(kind)
            if self._swallowed or self.client.last not in _ENDS_BATCH:
                # Should the batch fail, the server skips this one too, up to a Sync.
                self._hurried = True
                self._swallowed = False
            tell = self._on_statement
            if tell is not None and kind == _QUERY:
                tell(kind, body, length)
        elif kind in _ENDS_COPY:
            self._end_sent(kind)
        elif self._on_statement is not None:
            self._on_statement(kind, body, length)

    def _end_sent(self, kind: int) -> None:
        """Note a CopyDone or CopyFail, unless the server waits for none and ignores it."""
        if not (self._owed or self._copying or self.batch_open):
            return
        if len(self._owed) < _MARKS_LIMIT:
            self._owed.append(kind)
        else:
            self._doubts("the client ended COPYs that it had not begun")

    def _server_sent(self, kind: int, body: bytes, length: int) -> None:
        """Cross off what the server has answered."""
        if kind == _READY_FOR_QUERY:
            # In two parts, or malformed.
            self._ready(body[0] if length == 1 else 0)
        elif kind == _PARAMETER_STATUS:
            self._parameter(body, length)
        elif kind == _ERROR_RESPONSE:
            if self._hurried or self._early_sync:
                self._doubts("an error came while requests were sent ahead")
            self._end_copy()
            if self.batch_open and self.answered:
                # It is the open batch that failed: the server ignores all up to the next Sync.
                self._skipping = True
            self._on_error(body)
        elif kind == _COPY_IN_RESPONSE:
            self._copying = True
            self.server.mask = _SERVER_COPYING
            self._early_sync = self._sync_before_end()
        elif kind == _COMMAND_COMPLETE:
            self._copied()
        else:
            self._doubts("the server began a replication stream")

    def _parameter(self, body: bytes, length: int) -> None:
        if len(body) != length:
            self._doubts("the server sent an oversized ParameterStatus")
            return
        try:
            self._on_parameter(body)
        except ProtocolError as error:
            self._doubts(str(error))

    def _ready(self, status: int) -> None:
        self.ready_count += 1
        if status != self.status:
            if status not in _STATUSES:
                self._doubts("the server sent a malformed ReadyForQuery")
                return
            self.status = status
        if self._copying:
            self._end_copy()
            self._doubts("a COPY ended without a word")
        owed = self._owed
        while owed:
            if owed.popleft() not in _ENDS_COPY:
                break
        else:
            self._doubts("the server sent a ReadyForQuery that nobody was owed")
        if owed and owed[0] in _ENDS_COPY and self.answered and not self.batch_open:
            # They came too late for a COPY that had failed: the server ignores them.
            owed.clear()
        if self._hurried and not owed:
            self._hurried = False
        if self.watch:
            self.alert = True

    def _copied(self) -> None:
        """
        A COPY IN ended well: cross off its CopyDone, and the Syncs it swallowed.

        A CopyFail in front of it came too late for an earlier COPY.
        """
        self._end_copy()
        owed = self._owed
        while owed and owed[0] == _COPY_FAIL:
            owed.popleft()
        kept = owed.popleft() if owed and owed[0] == _QUERY else None
        swallowed = False
        while owed:
            mark = owed.popleft()
            if mark == _COPY_DONE:
                break
            swallowed = swallowed or mark == _SYNC
            if mark in _REQUESTS:
                self._doubts("a COPY ended that was not ended by the client")
                break
        else:
            self._doubts("a COPY ended that was not ended by the client")
        if kept is not None:
            owed.appendleft(kept)
        elif swallowed and self.answered:
            self._swallowed = True

    def _sync_before_end(self) -> bool:
        """Whether a Sync was sent that the COPY IN under way may swallow."""
        for mark in self._owed:
            if mark in _ENDS_COPY:
                return False
            if mark == _SYNC:
                return True
        return False

    def _end_copy(self) -> None:
        self._copying = self._early_sync = False
        self.server.mask = _SERVER
