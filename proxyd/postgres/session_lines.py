"""
A session's lines in the log: its statements, and the errors it was answered with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from proxyd.errors import ProtocolError
from proxyd.net.telling import tell_info
from proxyd.postgres.statements import parse_text, query_text
from proxyd.wire.pg.errors import INTERNAL_ERROR, ServerMessage, parse_error
from proxyd.wire.pg.messages import QUERY

if TYPE_CHECKING:
    from proxyd.postgres.client_session import ClientSession

_log = Logger()

_LAST = ("FATAL", "PANIC")
_UNKNOWN = ServerMessage("", INTERNAL_ERROR, "", "", "", {})


class SessionLines:
    """
    Writes what one session does.

    @ivar last_words: the SQLSTATE with which the server ended it, if it did
    """

    __slots__ = ("_errors", "_source", "_texts", "_user", "last_words")

    def __init__(self, source: str, user: str, errors: bool, texts: bool) -> None:
        """
        @param source: the client's address, with the port
        @param user: the name it logged in with
        @param errors: log that a statement failed, and its SQLSTATE
        @param texts: log the server's text too, which may quote data
        """
        self._source = source
        self._user = user
        self._errors = errors
        self._texts = texts
        self.last_words = ""

    def error(self, body: bytes) -> None:
        """The server answered with an ErrorResponse, of which this is the start."""
        error = _parsed(body)
        if error.severity in _LAST:
            self.last_words = error.sqlstate
        if self._errors:
            _log.info(
                "[{source}] [{user}] query error: {sqlstate}{text}",
                source=self._source,
                user=self._user,
                sqlstate=error.sqlstate,
                text=f" {error.message}" if self._texts else "",
            )

    def statement(self, kind: int, body: bytes, length: int) -> None:
        """A Query or a Parse goes to the server."""
        source, user = self._source, self._user
        if kind == QUERY:
            text = query_text(body, length)
            _log.info("[{source}] [{user}] QUERY: {text}", source=source, user=user, text=text)
        else:
            name, text = parse_text(body, length)
            _log.info(
                "[{source}] [{user}] PARSE: statement='{name}' query='{text}'",
                source=source,
                user=user,
                name=name,
                text=text,
            )


def tell_ended(
    log: Logger, session: ClientSession, now: float, received: int, sent: int, reason: str
) -> None:
    """The one line that says that a session is over."""
    tell_info(
        log,
        "[{source}] [{user}] session {number} on {database} ended after {seconds:.1f} s: "
        "{received} bytes in, {sent} bytes out, {reason}",
        source=session.source,
        user=session.principal.user,
        number=session.number,
        database=session.database,
        seconds=now - session.began,
        received=received,
        sent=sent,
        reason=reason,
    )


def _parsed(body: bytes) -> ServerMessage:
    """An ErrorResponse, without the field at which it was cut; an odd one has no fields."""
    if not body.endswith(b"\0\0"):
        whole, end, _ = body.rpartition(b"\0")
        body = whole + end + b"\0"
    try:
        return parse_error(body)
    except ProtocolError:
        return _UNKNOWN
