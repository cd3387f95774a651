"""
What a PostgreSQL client sends, as bytes: good messages and broken ones.

Written from PostgreSQL's chapter "Message Formats" alone and without a line of
proxyd's, so that a mistake there is not made here a second time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import pack

PROTOCOL_3_0 = 196608
SSL_REQUEST = pack("!ii", 8, 80877103)
GSSENC_REQUEST = pack("!ii", 8, 80877104)
CANCEL_CODE = 80877102

SYNC = b"S\0\0\0\4"
FLUSH = b"H\0\0\0\4"
TERMINATE = b"X\0\0\0\4"
COPY_DONE = b"c\0\0\0\4"


def message(kind: str, body: bytes = b"", length: int | None = None) -> bytes:
    """
    Any message.

    @param length: what its length word says; None: the truth
    """
    return kind.encode() + pack("!i", len(body) + 4 if length is None else length) + body


def cstring(text: str | bytes) -> bytes:
    """A string as messages carry it."""
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def startup(
    parameters: Mapping[str, str] | Sequence[tuple[str, str]],
    code: int = PROTOCOL_3_0,
    end: bytes = b"\0",
) -> bytes:
    """A StartupMessage: its pairs in the order given, repeated ones too."""
    pairs = parameters.items() if isinstance(parameters, Mapping) else parameters
    body = pack("!i", code) + b"".join(cstring(k) + cstring(v) for k, v in pairs) + end
    return pack("!i", len(body) + 4) + body


def cancel(pid: int, key: bytes) -> bytes:
    """A CancelRequest."""
    return pack("!iii", 12 + len(key), CANCEL_CODE, pid) + key


def query(sql: str | bytes) -> bytes:
    """A simple Query."""
    return message("Q", cstring(sql))


def parse(sql: str, name: str = "", types: Sequence[int] = ()) -> bytes:
    """Parse, with the OIDs of parameter types (0: left to the server)."""
    oids = b"".join(pack("!I", oid) for oid in types)
    return message("P", cstring(name) + cstring(sql) + pack("!H", len(types)) + oids)


def bind(
    values: Sequence[bytes | None] = (),
    portal: str = "",
    statement: str = "",
    *,
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    """Bind; C{formats} of values and C{results}: 0 text, 1 binary."""
    body = cstring(portal) + cstring(statement) + shorts(formats) + pack("!H", len(values))
    for value in values:
        body += pack("!i", -1) if value is None else pack("!i", len(value)) + value
    return message("B", body + shorts(results))


def describe(kind: str, name: str = "") -> bytes:
    """Describe a statement (C{S}) or a portal (C{P})."""
    return message("D", kind.encode() + cstring(name))


def execute(portal: str = "", limit: int = 0) -> bytes:
    """Execute; C{limit} 0: all rows."""
    return message("E", cstring(portal) + pack("!i", limit))


def close(kind: str, name: str = "") -> bytes:
    """Close a statement (C{S}) or a portal (C{P})."""
    return message("C", kind.encode() + cstring(name))


def copy_data(data: bytes) -> bytes:
    """CopyData."""
    return message("d", data)


def copy_fail(reason: str) -> bytes:
    """CopyFail."""
    return message("f", cstring(reason))


def function_call(
    oid: int,
    arguments: Sequence[bytes | None],
    *,
    formats: Sequence[int] = (1,),
    result: int = 1,
) -> bytes:
    """FunctionCall, its arguments and result in binary where not said otherwise."""
    body = pack("!I", oid) + shorts(formats) + pack("!H", len(arguments))
    for value in arguments:
        body += pack("!i", -1) if value is None else pack("!i", len(value)) + value
    return message("F", body + pack("!H", result))


def extended(sql: str, values: Sequence[bytes | None] = (), *, limit: int = 0) -> bytes:
    """A statement by Parse, Bind, Describe and Execute on the unnamed ones, without Sync."""
    return parse(sql) + bind(values) + describe("P") + execute(limit=limit)


def shorts(values: Sequence[int]) -> bytes:
    """A counted list of 16-bit numbers."""
    return pack("!H", len(values)) + b"".join(pack("!h", value) for value in values)
