"""
What a PostgreSQL client says first, up to its StartupMessage.

The machine knows the packets that have no type byte: requests for encryption,
to cancel, to start. It makes no answer; what to say to each event is the
listener's business.

Source: PostgreSQL, "Frontend/Backend Protocol", chapters "Message Flow",
sections "Start-up", "SSL Session Encryption", "Canceling Requests in Progress",
and "Message Formats"; where they say nothing, C{backend_startup.c}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from functools import lru_cache
from types import MappingProxyType

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.pg.date_style import merge_date_styles
from proxyd.wire.pg.errors import PgProtocolError
from proxyd.wire.pg.messages import (
    CANCEL_REQUEST_CODE,
    GSSENC_REQUEST_CODE,
    KEY_LENGTHS,
    SSL_REQUEST_CODE,
)

PACKET_LENGTHS = range(8, 10001)
"""How long a first packet may say it is, in bytes, its length word included."""

NAME_LIMIT = 63
"""Bytes of a user's or database's name that count (C{NAMEDATALEN} - 1)."""

NEWEST_MINOR = 2
"""The newest protocol that clients are spoken to in is 3.2."""

TLS_HANDSHAKE = 0x16
"""The first byte of a client that begins TLS without asking."""

REMEMBERED = 512
"""Bytes of the longest packet that is kept, with what it means."""

_BLANKS = frozenset(" \t\n\v\f\r")
_PROTOCOL_OPTION = "_pq_."


class NotPostgres(ProtocolError):
    """These bytes are no PostgreSQL, or nobody waits for an answer: close without one."""


@dataclass(frozen=True, slots=True)
class SslRequested:
    """The client asks for TLS: send C{S} or C{N}, then call L{ClientStartup.answered}."""


@dataclass(frozen=True, slots=True)
class GssRequested:
    """The client asks for GSSAPI encryption: send C{N}, then call L{ClientStartup.answered}."""


@dataclass(frozen=True, slots=True)
class DirectTlsOffered:
    """
    The client began TLS without asking: look for the ALPN C{postgresql}.

    Its bytes so far are in C{trailing_data}; L{ClientStartup.answered} drops
    them, because they are TLS's.
    """


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The client wants a query cancelled: there is no answer, only the close."""

    pid: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartupRequested:
    """
    The client wants a session.

    @param version: major (always 3) and minor; above L{NEWEST_MINOR}, or with
        unknown options, the answer starts with NegotiateProtocolVersion. Nobody
        ever spoke 3.1; like PostgreSQL 18 we take it for 3.0 without a word.
    @param parameters: what it sent, the last of equal names (of DateStyle what
        they make together); C{user} and C{database} are always there, at most
        63 bytes long
    @param unknown_options: names of protocol options (C{_pq_.…}), none of
        which is known here
    """

    version: tuple[int, int]
    parameters: Mapping[str, str]
    unknown_options: tuple[str, ...]


StartupEvent = SslRequested | GssRequested | DirectTlsOffered | CancelRequested | StartupRequested


@unique
class StartupState(Enum):
    """How far a client has come."""

    READING = "waiting for a packet"
    ASKED = "waiting for our answer about encryption"
    DONE = "said what it wants"
    FAILED = "broke the protocol"


class ClientStartup:
    """
    Reads a client's first packets.

    On L{SslRequested}, L{GssRequested} and L{DirectTlsOffered} answer the
    client and call L{answered} before more bytes are handed in. On
    L{StartupRequested} the machine has done its work, and C{trailing_data} is
    for the next one; on L{CancelRequested} too, and the rest is of no interest.

    @param direct_tls: whether a client may begin with TLS at the first byte;
        if not, that is no PostgreSQL
    """

    __slots__ = ("_ask", "_asked", "_buffer", "_direct_tls", "_secure", "_state")

    def __init__(self, *, direct_tls: bool = False) -> None:
        self._direct_tls = direct_tls
        self._secure = False
        self._asked: set[int] = set()
        self._ask = 0
        self._buffer = bytearray()
        self._state = StartupState.READING

    @property
    def state(self) -> StartupState:
        """How far the client has come."""
        return self._state

    @property
    def secure(self) -> bool:
        """Whether L{answered} said that the connection is encrypted."""
        return self._secure

    @property
    def trailing_data(self) -> bytes:
        """The bytes that no event has been made of."""
        return bytes(self._buffer)

    def receive_data(self, data: bytes) -> list[StartupEvent]:
        """
        Take bytes from the client, in chunks of any size: one event at most.

        What comes after a broken protocol is ignored.

        @raise NotPostgres: close the connection without a word
        @raise PgProtocolError: tell the client, as FATAL, and hang up
        """
        if self._state is StartupState.FAILED:
            return []
        self._buffer += data
        if self._state is StartupState.DONE or not self._buffer:
            return []
        try:
            event = self._next_event()
        except ProtocolError:
            self._state = StartupState.FAILED
            self._buffer.clear()
            raise
        return [] if event is None else [event]

    def answered(self, secure: bool) -> None:
        """
        Say what came of the client's wish to be encrypted.

        @param secure: whether all further bytes come out of TLS
        @raise LocalProtocolError: nothing was asked, or TLS within TLS is promised
        """
        if self._state is not StartupState.ASKED:
            raise LocalProtocolError("the client asked for nothing")
        if secure and self._secure:
            raise LocalProtocolError("the connection is encrypted already: the answer is N")
        if self._ask == TLS_HANDSHAKE:
            if not secure:
                raise LocalProtocolError("a client that began with TLS can't be told no")
            self._buffer.clear()
        elif secure:
            # Once one of the two was granted, the other can't be asked for.
            self._asked |= {SSL_REQUEST_CODE, GSSENC_REQUEST_CODE}
        self._secure = self._secure or secure
        self._ask = 0
        self._state = StartupState.READING

    def _next_event(self) -> StartupEvent | None:
        """Make the next event of what is buffered, if it is whole."""
        buffer = self._buffer
        if self._state is StartupState.ASKED:
            if self._ask == TLS_HANDSHAKE:
                return None
            self._refuse_early_data()
        direct_tls, self._direct_tls = self._direct_tls, False
        if direct_tls and buffer[0] == TLS_HANDSHAKE:
            self._ask = TLS_HANDSHAKE
            self._state = StartupState.ASKED
            return DirectTlsOffered()
        if len(buffer) < 4:
            return None
        length = int.from_bytes(buffer[:4], "big")
        if length not in PACKET_LENGTHS:
            # An HTTP request and a TLS record end here too.
            raise NotPostgres("the first bytes are no PostgreSQL packet")
        if len(buffer) < length:
            return None
        packet = bytes(buffer[4:length])
        del buffer[:length]
        return self._read_packet(packet)

    def _read_packet(self, packet: bytes) -> StartupEvent:
        """Make an event of a whole packet, its length word taken off."""
        code = int.from_bytes(packet[:4], "big")
        if code == CANCEL_REQUEST_CODE:
            event: StartupEvent = _read_cancel(packet)
        elif code in (SSL_REQUEST_CODE, GSSENC_REQUEST_CODE) and code not in self._asked:
            self._asked.add(code)
            self._ask = code
            self._state = StartupState.ASKED
            if self._buffer:
                self._refuse_early_data()
            return SslRequested() if code == SSL_REQUEST_CODE else GssRequested()
        elif len(packet) <= REMEMBERED:
            event = remembered_startup(packet)
        else:
            event = _read_startup(packet)
        self._state = StartupState.DONE
        return event

    def _refuse_early_data(self) -> None:
        """
        Refuse bytes that came before our answer.

        They were not encrypted, and whoever sits between could have slipped
        them in: they must never be taken for what the client said within TLS.
        """
        kind = "SSL" if self._ask == SSL_REQUEST_CODE else "GSSAPI encryption"
        raise PgProtocolError(f"received unencrypted data after {kind} request")


def _read_cancel(packet: bytes) -> CancelRequested:
    """Read a CancelRequest; a bad one is not answered either."""
    if len(packet) - 8 not in KEY_LENGTHS:
        raise NotPostgres("invalid length of a cancel request")
    return CancelRequested(int.from_bytes(packet[4:8], "big", signed=True), packet[8:])


def _read_startup(packet: bytes) -> StartupRequested:
    """Read a StartupMessage, or refuse whatever else claims to be a version."""
    major = int.from_bytes(packet[:2], "big")
    minor = int.from_bytes(packet[2:4], "big")
    if major != 3:
        raise PgProtocolError(
            f"unsupported frontend protocol {major}.{minor}: "
            f"server supports 3.0 to 3.{NEWEST_MINOR}",
            "0A000",
        )
    parameters: dict[str, str] = {}
    unknown_options: list[str] = []
    for raw_name, raw_value in _pairs(packet[4:]):
        name = _decode(raw_name, "a parameter's name")
        if name.startswith(_PROTOCOL_OPTION):
            unknown_options.append(name)
            continue
        value = _decode_value(name, raw_value)
        if name in parameters and name.lower() == "datestyle":
            value = merge_date_styles(parameters[name], value)
        parameters[name] = value
    user = truncate_name(parameters.get("user", ""))
    if not user:
        raise PgProtocolError("no PostgreSQL user name specified in startup packet", "28000")
    parameters["user"] = user
    parameters["database"] = truncate_name(parameters.get("database", "")) or user
    return StartupRequested((major, minor), MappingProxyType(parameters), tuple(unknown_options))


@lru_cache(maxsize=256)
def remembered_startup(packet: bytes) -> StartupRequested:
    """The same; most of a fleet's clients send the same packet again and again."""
    return _read_startup(packet)


def _pairs(data: bytes) -> list[tuple[bytes, bytes]]:
    """Take names and values apart, each ended by NUL, the list by an empty name."""
    parts = data.split(b"\0")
    # A good list splits into names and values, the empty name, and nothing.
    words = parts[:-2]
    if len(parts) < 2 or parts[-1] or parts[-2] or len(words) % 2 or b"" in words[::2]:
        raise PgProtocolError("invalid startup packet layout: expected terminator as last byte")
    return list(zip(words[::2], words[1::2], strict=True))


def _decode_value(name: str, value: bytes) -> str:
    """
    Read a parameter's value.

    C{application_name} shows what is not UTF-8 as backslash escapes, as
    PostgreSQL does: it is a label, sent in the encoding of some terminal. In
    any other value another text would mean another thing, so it is refused.
    """
    if name == "application_name":
        return value.decode("utf-8", "backslashreplace")
    what = f'parameter "{name}"' if name in ("user", "database") else "a parameter's value"
    return _decode(value, what)


def _decode(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise PgProtocolError(
            f'invalid byte sequence for encoding "UTF8" in {what} of the startup packet', "22021"
        ) from None


def truncate_name(name: str) -> str:
    """
    Cut a user's or database's name to 63 bytes, never within a character.

    PostgreSQL before version 17 does so at start-up. It is done here, once,
    so that no rule is asked about another name than the one that logs in.
    """
    return name.encode("utf-8")[:NAME_LIMIT].decode("utf-8", "ignore")


def split_options(text: str) -> list[tuple[str, str]]:
    """
    Read the start-up parameter C{options} as the settings it asks for, in order.

    Words are parted by blanks; a backslash takes the next character as it is.
    C{-c name=value}, C{-cname=value} and C{--name=value} are settings, with
    dashes in names read as underscores; every other switch is refused.

    Source: C{pg_split_opts}, C{process_postgres_switches}, C{ParseLongOption}.

    @raise PgProtocolError: something else stands there, or a value is missing
    """
    settings: list[tuple[str, str]] = []
    words = iter(_words(text))
    for word in words:
        if word == "-c":
            setting = next(words, None)
            if setting is None:
                raise _bad_option(word)
        elif word.startswith("-c") or (word.startswith("--") and len(word) > 2):
            setting = word[2:]
        else:
            raise _bad_option(word)
        name, equals, value = setting.partition("=")
        if not name:
            raise _bad_option(word)
        if not equals:
            switch = "--" if word.startswith("--") else "-c "
            raise PgProtocolError(f"{switch}{setting} requires a value", "42601")
        settings.append((name.replace("-", "_"), value))
    return settings


def _words(text: str) -> list[str]:
    """Part a text at blanks that no backslash precedes, and take the backslashes off."""
    words: list[str] = []
    word: list[str] | None = None
    escaped = False
    for character in text:
        if not escaped and character in _BLANKS:
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        if word is None:
            word = []
        if not escaped and character == "\\":
            escaped = True
            continue
        escaped = False
        word.append(character)
    if word is not None:
        words.append("".join(word))
    return words


def _bad_option(word: str) -> PgProtocolError:
    return PgProtocolError(f"invalid command-line argument for server process: {word}", "42601")
