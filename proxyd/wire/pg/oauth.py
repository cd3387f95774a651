"""
SASL OAUTHBEARER, the server's half: a token instead of a password.

Source: RFC 7628; RFC 5801, section 4 (GS2 header); RFC 6750, section 2.1
(bearer tokens); PostgreSQL 18, "OAuth Authorization/Authentication" and "SASL
Authentication".
"""

from __future__ import annotations

import json
import re
from struct import unpack_from

from proxyd.errors import LocalProtocolError
from proxyd.wire.pg.errors import PgProtocolError

MECHANISM = "OAUTHBEARER"

_SEPARATOR = b"\x01"
_KEY = re.compile(rb"[A-Za-z]+")
_TOKEN = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_BEARER = b"bearer "


class OAuthBearer:
    """
    One exchange.

    Give L{initial_response} the client's SASLInitialResponse. If its token is
    good, AuthenticationOk is all that follows. If not, or if it has none and
    only asks where tokens are had: send L{refusal} as AuthenticationSASLContinue,
    give L{acknowledged} the answer, and end with an error.
    """

    def __init__(self) -> None:
        self._refused = False

    def initial_response(self, body: bytes) -> bytes:
        """
        The client's token; empty: it has none yet, and asks where to get one.

        @param body: of the message
        @raise PgProtocolError: it is malformed, or for another mechanism
        """
        mechanism, nul, rest = body.partition(b"\0")
        if not nul or len(rest) < 4:
            raise PgProtocolError("malformed SASLInitialResponse")
        if mechanism != MECHANISM.encode():
            raise PgProtocolError("client selected an invalid SASL authentication mechanism")
        (length,) = unpack_from("!i", rest)
        data = rest[4:]
        if length == -1 or length != len(data):
            raise PgProtocolError("malformed OAUTHBEARER message: its length is wrong")
        return _token_of(data)

    def refusal(self, configuration: str, scope: str = "openid") -> bytes:
        """
        Why a token is not taken, and where one that would be is had (RFC 7628, section 3.2.2).

        @param configuration: the URL of the issuer's discovery document; empty: unknown
        """
        self._refused = True
        said = {"status": "invalid_token", "scope": scope}
        if configuration:
            said["openid-configuration"] = configuration
        return json.dumps(said).encode()

    def acknowledged(self, body: bytes) -> None:
        """
        The client has heard of the refusal.

        @raise PgProtocolError: it says something else than that
        """
        if not self._refused:
            raise LocalProtocolError("nothing was refused yet")
        if body != _SEPARATOR:
            raise PgProtocolError(
                "malformed OAUTHBEARER message: a refusal is acknowledged by 0x01"
            )


def _token_of(data: bytes) -> bytes:
    """The token in a client's first message (RFC 7628, section 3.1)."""
    header, separator, rest = data.partition(_SEPARATOR)
    flag, _, name = header.partition(b",")
    if flag.startswith(b"p="):
        raise PgProtocolError("OAUTHBEARER has no channel binding")
    if not separator or flag not in (b"n", b"y") or not name.endswith(b","):
        raise PgProtocolError("malformed OAUTHBEARER message: no GS2 header")
    if name != b",":
        raise PgProtocolError("OAUTHBEARER as somebody else is not offered")
    if not rest.endswith(_SEPARATOR):
        raise PgProtocolError("malformed OAUTHBEARER message: it does not end")
    pairs = rest[:-1].split(_SEPARATOR)
    if pairs.pop() != b"":
        raise PgProtocolError("malformed OAUTHBEARER message: it does not end")
    found: bytes | None = None
    for pair in pairs:
        key, equals, value = pair.partition(b"=")
        if not equals or _KEY.fullmatch(key) is None:
            raise PgProtocolError("malformed OAUTHBEARER message: a key without a value")
        if key == b"auth":
            if found is not None:
                raise PgProtocolError("malformed OAUTHBEARER message: auth stands twice")
            found = value
    if found is None:
        raise PgProtocolError("malformed OAUTHBEARER message: no auth")
    return _bearer(found)


def _bearer(value: bytes) -> bytes:
    """The token behind the word Bearer; empty where there is nothing at all."""
    if not value:
        return b""
    if value[: len(_BEARER)].lower() != _BEARER:
        raise PgProtocolError("malformed OAUTHBEARER message: no bearer token")
    token = value[len(_BEARER) :].lstrip(b" ")
    if _TOKEN.fullmatch(token) is None:
        raise PgProtocolError("malformed OAUTHBEARER message: no bearer token")
    return token
