"""
The messages of the PostgreSQL protocol, made and taken apart.

Each builder gives one whole message, each parser takes one body without its
header. Text is UTF-8; bytes that are not survive being read and written again
(surrogateescape). The fields of errors and notices live in
L{proxyd.wire.pg.errors}, a client's first packets in L{proxyd.wire.pg.startup}.

Source: PostgreSQL, "Frontend/Backend Protocol", chapter "Message Formats".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from struct import Struct

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.pg.errors import PgProtocolError

# Message types, client to server. SYNC and TERMINATE below are whole messages,
# because they have no body; their types bear the ending _TYPE.
BIND = ord("B")
CLOSE = ord("C")
COPY_FAIL = ord("f")
DESCRIBE = ord("D")
EXECUTE = ord("E")
FLUSH = ord("H")
FUNCTION_CALL = ord("F")
PARSE = ord("P")
PASSWORD = ord("p")
QUERY = ord("Q")
SYNC_TYPE = ord("S")
TERMINATE_TYPE = ord("X")

# Message types, both ways.
COPY_DATA = ord("d")
COPY_DONE = ord("c")

# Message types, server to client.
AUTHENTICATION = ord("R")
BACKEND_KEY_DATA = ord("K")
BIND_COMPLETE = ord("2")
CLOSE_COMPLETE = ord("3")
COMMAND_COMPLETE = ord("C")
COPY_BOTH_RESPONSE = ord("W")
COPY_IN_RESPONSE = ord("G")
COPY_OUT_RESPONSE = ord("H")
DATA_ROW = ord("D")
EMPTY_QUERY_RESPONSE = ord("I")
ERROR_RESPONSE = ord("E")
FUNCTION_CALL_RESPONSE = ord("V")
NEGOTIATE_PROTOCOL_VERSION = ord("v")
NO_DATA = ord("n")
NOTICE_RESPONSE = ord("N")
NOTIFICATION_RESPONSE = ord("A")
PARAMETER_DESCRIPTION = ord("t")
PARAMETER_STATUS = ord("S")
PARSE_COMPLETE = ord("1")
PORTAL_SUSPENDED = ord("s")
READY_FOR_QUERY = ord("Z")
ROW_DESCRIPTION = ord("T")

# The words of an Authentication message.
AUTH_OK = 0
AUTH_CLEARTEXT = 3
AUTH_MD5 = 5
AUTH_SASL = 10
AUTH_SASL_CONTINUE = 11
AUTH_SASL_FINAL = 12

# What stands in a start-up packet where the version would.
PROTOCOL_3 = 3 << 16
CANCEL_REQUEST_CODE = 1234 << 16 | 5678
SSL_REQUEST_CODE = 1234 << 16 | 5679
GSSENC_REQUEST_CODE = 1234 << 16 | 5680

KEY_LENGTHS = range(4, 257)
"""How long a cancel key may be, in bytes: four in version 3.0, up to 256 in 3.2."""

SYNC = b"S\0\0\0\4"
TERMINATE = b"X\0\0\0\4"

_INT16 = Struct("!H")
_HEADER = Struct(">Bi")
_INT32 = Struct("!i")
_KEY_DATA = Struct("!Bii")
_INT16_MAX = 2**16 - 1
_INT32_MAX = 2**31 - 1


# -- server to client


def authentication_ok() -> bytes:
    """AuthenticationOk: the client is who it says."""
    return _authentication(AUTH_OK)


def authentication_cleartext() -> bytes:
    """AuthenticationCleartextPassword: the client is to send its password."""
    return _authentication(AUTH_CLEARTEXT)


def authentication_sasl(mechanisms: Iterable[str]) -> bytes:
    """AuthenticationSASL: the client is to choose one of these, best first."""
    return _authentication(AUTH_SASL, b"".join(map(_string, mechanisms)) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    """AuthenticationSASLContinue: the mechanism's challenge."""
    return _authentication(AUTH_SASL_CONTINUE, data)


def authentication_sasl_final(data: bytes) -> bytes:
    """AuthenticationSASLFinal: the mechanism's last word."""
    return _authentication(AUTH_SASL_FINAL, data)


def parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus: a setting's value, as it now is for this client."""
    return _message(PARAMETER_STATUS, _string(name) + _string(value))


def backend_key_data(pid: int, key: bytes) -> bytes:
    """
    BackendKeyData: what the client must show to cancel.

    @param key: four bytes for a client of version 3.0; up to 256 from 3.2 on
    """
    length = len(key)
    if length not in KEY_LENGTHS or not -_INT32_MAX - 1 <= pid <= _INT32_MAX:
        raise LocalProtocolError(f"a cancel key of {length} bytes, or its number, can't be said")
    return _KEY_DATA.pack(BACKEND_KEY_DATA, 8 + length, pid) + key


def ready_for_query(status: bytes = b"I") -> bytes:
    """ReadyForQuery: C{I} idle, C{T} in a transaction, C{E} in a failed one."""
    if status not in (b"I", b"T", b"E"):
        raise LocalProtocolError(f"no transaction status: {status!r}")
    return _message(READY_FOR_QUERY, status)


def notification_response(body: bytes) -> bytes:
    """NotificationResponse, of a body that is handed on as it came."""
    return _message(NOTIFICATION_RESPONSE, body)


def negotiate_protocol_version(minor: int, unknown_options: Sequence[str]) -> bytes:
    """
    NegotiateProtocolVersion: the newest version spoken here, and what was not understood.

    The chapter calls the number the minor version; PostgreSQL sends, and libpq
    expects, the whole version (C{SendNegotiateProtocolVersion}), and so does this.
    """
    names = b"".join(map(_string, unknown_options))
    number = _int32(PROTOCOL_3 | minor)
    return _message(NEGOTIATE_PROTOCOL_VERSION, number + _int32(len(unknown_options)) + names)


# -- client to server


def ssl_request() -> bytes:
    """SSLRequest: answered by one byte, C{S} or C{N}, or an old server's ErrorResponse."""
    return _int32(8) + _int32(SSL_REQUEST_CODE)


def cancel_request(pid: int, key: bytes) -> bytes:
    """CancelRequest, the only thing said on its connection; it has no answer."""
    body = _int32(CANCEL_REQUEST_CODE) + _int32(pid) + _key(key)
    return _int32(len(body) + 4) + body


def startup_message(parameters: Mapping[str, str], minor: int = 0) -> bytes:
    """
    StartupMessage of version 3.C{minor}.

    @param parameters: C{user} at least, in the order given
    @raise LocalProtocolError: a name is empty, or a text can't be sent
    """
    if "" in parameters:
        raise LocalProtocolError("a start-up parameter without a name")
    pairs = b"".join(_string(name) + _string(value) for name, value in parameters.items())
    body = _int32(PROTOCOL_3 | minor) + pairs + b"\0"
    return _int32(len(body) + 4) + body


def password_message(password: bytes) -> bytes:
    """PasswordMessage: a password in clear, or its MD5 answer."""
    if 0 in password:
        raise LocalProtocolError("a password with a NUL byte can't be sent")
    return _message(PASSWORD, password + b"\0")


def sasl_initial_response(mechanism: str, data: bytes) -> bytes:
    """SASLInitialResponse: the mechanism that was chosen and its first words."""
    return _message(PASSWORD, _string(mechanism) + _int32(len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    """SASLResponse: the mechanism's next words."""
    return _message(PASSWORD, data)


def query(sql: str) -> bytes:
    """Query: one or more statements as text."""
    return _message(QUERY, _string(sql))


def parse(name: str, sql: str) -> bytes:
    """Parse: one statement, the types of its parameters left to the server."""
    return _message(PARSE, _string(name) + _string(sql) + _INT16.pack(0))


def bind(portal: str, statement: str, values: Sequence[bytes | None]) -> bytes:
    """
    Bind: values for a statement's parameters, as text; the rows come as text too.

    @param values: None is NULL
    @raise LocalProtocolError: there are more than 65535 of them
    """
    return _message(BIND, _string(portal) + _string(statement) + _values(values))


def function_call(function: int, values: Sequence[bytes | None]) -> bytes:
    """
    FunctionCall: one function, called without a statement; values and result are text.

    @param function: its OID
    @param values: None is NULL
    @raise LocalProtocolError: there are more than 65535 of them
    """
    return _message(FUNCTION_CALL, _int32(function) + _values(values))


def execute(portal: str, limit: int = 0) -> bytes:
    """Execute: run a portal, for C{limit} rows; 0 is all of them."""
    return _message(EXECUTE, _string(portal) + _int32(limit))


def sync() -> bytes:
    """Sync: the end of an extended query, answered by ReadyForQuery."""
    return SYNC


def copy_fail(reason: str) -> bytes:
    """Give up a COPY IN; the server answers it with an error."""
    return _message(COPY_FAIL, _string(reason))


def terminate() -> bytes:
    """Terminate: the client leaves."""
    return TERMINATE


# -- parsers


@lru_cache(maxsize=256)
def parse_parameter_status(body: bytes) -> tuple[str, str]:
    """
    A setting's name and value.

    @raise ProtocolError: the body is not exactly two strings
    """
    parts = body.split(b"\0")
    if len(parts) != 3 or parts[2]:
        raise ProtocolError("invalid ParameterStatus message")
    return _text(parts[0]), _text(parts[1])


def parse_backend_key_data(body: bytes) -> tuple[int, bytes]:
    """
    A server process's number and its cancel key.

    @raise ProtocolError: the key is not of 4 to 256 bytes
    """
    if len(body) - 4 not in KEY_LENGTHS:
        raise ProtocolError("invalid BackendKeyData message")
    return int.from_bytes(body[:4], "big", signed=True), body[4:]


def parse_password(body: bytes) -> bytes:
    """
    A client's password, without its NUL; it may be empty.

    @raise PgProtocolError: the NUL is missing, or not the last byte
    """
    if not body or body.find(0) != len(body) - 1:
        raise PgProtocolError("invalid password packet size")
    return body[:-1]


def parse_authentication(body: bytes) -> tuple[int, bytes]:
    """
    What a server asks for (C{AUTH_...}) and what goes with it.

    @raise ProtocolError: the body is too short
    """
    if len(body) < 4:
        raise ProtocolError("invalid Authentication message")
    return int.from_bytes(body[:4], "big", signed=True), body[4:]


def parse_data_row(body: bytes) -> list[bytes | None]:
    """
    The columns of a row; None is NULL.

    @raise ProtocolError: a number of columns or a length lies
    """
    if len(body) < 2:
        raise ProtocolError("invalid DataRow message")
    count = int.from_bytes(body[:2], "big")
    columns: list[bytes | None] = []
    at = 2
    for _ in range(count):
        start = at + 4
        length = int.from_bytes(body[at:start], "big", signed=True)
        if start > len(body) or length < -1 or length > len(body) - start:
            raise ProtocolError("invalid DataRow message")
        at = start + max(length, 0)
        columns.append(None if length == -1 else body[start:at])
    if at != len(body):
        raise ProtocolError("invalid DataRow message")
    return columns


def parse_command_tag(body: bytes) -> str:
    """
    What a CommandComplete says was done, such as C{SELECT 1}.

    @raise ProtocolError: the body is not exactly one string
    """
    if not body or body.find(0) != len(body) - 1:
        raise ProtocolError("invalid CommandComplete message")
    return body[:-1].decode("utf-8", "replace")


# -- parts


def _message(kind: int, body: bytes) -> bytes:
    length = len(body) + 4
    # A length that wraps would let the body's bytes pass for messages.
    if length > _INT32_MAX:
        raise LocalProtocolError(f"{length} is no 32-bit number")
    return _HEADER.pack(kind, length) + body


def _authentication(code: int, data: bytes = b"") -> bytes:
    return _message(AUTHENTICATION, _int32(code) + data)


def _int32(number: int) -> bytes:
    if not -_INT32_MAX - 1 <= number <= _INT32_MAX:
        raise LocalProtocolError(f"{number} is no 32-bit number")
    return _INT32.pack(number)


def _values(values: Sequence[bytes | None]) -> bytes:
    """Values as Bind and FunctionCall have them: all of them text, and so what comes of them."""
    if len(values) > _INT16_MAX:
        raise LocalProtocolError(f"{len(values)} parameters are too many")
    sized = b"".join(
        _int32(-1) if value is None else _int32(len(value)) + value for value in values
    )
    return _INT16.pack(0) + _INT16.pack(len(values)) + sized + _INT16.pack(0)


def _key(key: bytes) -> bytes:
    if len(key) not in KEY_LENGTHS:
        raise LocalProtocolError(f"a cancel key of {len(key)} bytes")
    return key


def _string(text: str) -> bytes:
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise LocalProtocolError("a text that UTF-8 can't say can't be sent") from None
    if 0 in data:
        # A NUL would end the string early, and what follows would be read as
        # something else.
        raise LocalProtocolError("a text with a NUL character can't be sent")
    return data + b"\0"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
