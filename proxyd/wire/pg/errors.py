"""
What PostgreSQL says when something is wrong: ErrorResponse and NoticeResponse.

Here are the bytes of both messages, to be read and to be made, and the word
for a peer's fault that can be told to it. Which fault gets which words is the
business of whoever finds it.

Source: PostgreSQL, "Frontend/Backend Protocol", chapters "Message Formats" and
"Error and Notice Message Fields".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from proxyd.errors import LocalProtocolError, ProtocolError

PROTOCOL_VIOLATION = "08P01"
"""The SQLSTATE of a broken protocol, when nothing better fits."""

INTERNAL_ERROR = "XX000"
"""The SQLSTATE of a message that came without a valid one."""

_SQLSTATE = re.compile(r"[0-9A-Z]{5}", re.ASCII)


class PgProtocolError(ProtocolError):
    """
    The peer broke the PostgreSQL protocol in a way that it can be told.

    @param text: the message, in PostgreSQL's own words where it has some
    @param sqlstate: five characters, as in the appendix "PostgreSQL Error Codes"
    """

    def __init__(self, text: str, sqlstate: str = PROTOCOL_VIOLATION) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """
    What a server said in an ErrorResponse or a NoticeResponse.

    Every field is optional on the wire: a text that was not there is empty,
    and a missing or impossible SQLSTATE is C{XX000}.

    @param severity: never translated where the server says so (field V), else
        as it was sent (field S)
    @param fields: all fields by their letter, as they were sent
    """

    severity: str = ""
    sqlstate: str = INTERNAL_ERROR
    message: str = ""
    detail: str = ""
    hint: str = ""
    fields: dict[str, str] = field(default_factory=dict, hash=False)


def parse_error(body: bytes) -> ServerMessage:
    """
    Read the body of an ErrorResponse or NoticeResponse.

    Bytes that are not UTF-8 become the replacement character; of a field sent
    twice the last one counts.

    @raise ProtocolError: a field or the whole list has no end, or bytes follow it
    """
    fields: dict[str, str] = {}
    at = 0
    while True:
        if at >= len(body):
            raise ProtocolError("error message without its terminator")
        letter = body[at]
        if letter == 0:
            break
        end = body.find(0, at + 1)
        if end < 0:
            raise ProtocolError("error message with a field that has no end")
        fields[chr(letter)] = body[at + 1 : end].decode("utf-8", "replace")
        at = end + 1
    if at != len(body) - 1:
        raise ProtocolError("error message with bytes after its terminator")
    sqlstate = fields.get("C", "")
    return ServerMessage(
        severity=fields.get("V") or fields.get("S", ""),
        sqlstate=sqlstate if _SQLSTATE.fullmatch(sqlstate) else INTERNAL_ERROR,
        message=fields.get("M", ""),
        detail=fields.get("D", ""),
        hint=fields.get("H", ""),
        fields=fields,
    )


def error_response(
    severity: str, sqlstate: str, message: str, detail: str = "", hint: str = ""
) -> bytes:
    """
    Make a whole ErrorResponse.

    NUL characters are left out, and what UTF-8 can't say is shown as a
    backslash escape, so that no text of anybody's can break the message.

    @param severity: FATAL when the connection is closed after it, else ERROR
    @raise LocalProtocolError: the SQLSTATE is none
    """
    return _message(b"E", severity, sqlstate, message, detail, hint)


def notice_response(
    severity: str, sqlstate: str, message: str, detail: str = "", hint: str = ""
) -> bytes:
    """
    Make a whole NoticeResponse; as L{error_response} in all else.

    @param severity: WARNING, NOTICE, DEBUG, INFO or LOG
    @raise LocalProtocolError: the SQLSTATE is none
    """
    return _message(b"N", severity, sqlstate, message, detail, hint)


def _message(
    kind: bytes, severity: str, sqlstate: str, message: str, detail: str, hint: str
) -> bytes:
    """Make a message of fields; detail and hint only when they say something."""
    if not _SQLSTATE.fullmatch(sqlstate):
        raise LocalProtocolError(f"no SQLSTATE: {sqlstate!r}")
    fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", message)]
    fields += [(letter, text) for letter, text in (("D", detail), ("H", hint)) if text]
    body = b"".join(
        letter.encode() + text.replace("\0", "").encode("utf-8", "backslashreplace") + b"\0"
        for letter, text in fields
    )
    return kind + (len(body) + 5).to_bytes(4, "big") + body + b"\0"
