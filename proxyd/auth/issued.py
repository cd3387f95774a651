"""
Tokens of our own secret: their claims, and their signature (HS256, RFC 7518, section 3.2).

Which of them are still good is not known here.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from proxyd.auth.jws import Signed
from proxyd.records import DatabaseId, Grant, Refusal, TokenRefused

ALGORITHM = "HS256"
TYPE = "database_access"

NO_TIME_LIMIT = 253_402_300_799.0
"""The last second of the year 9999: no date is later."""


def digest_of(token: bytes) -> bytes:
    """What is kept of a token: its SHA-256."""
    return hashlib.sha256(token).digest()


def new_token_id() -> str:
    """An id that nobody guesses; no command takes it for an option."""
    while (token_id := secrets.token_urlsafe(16)).startswith("-"):
        pass
    return token_id


class OwnSecret:
    """
    The secrets that tokens of our own are signed with.

    @param secret: the one that new tokens are signed with
    @param previous: those that older ones may have been signed with
    """

    def __init__(self, secret: bytes, previous: Sequence[bytes] = ()) -> None:
        self._all = (secret, *previous)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims."""
        with warnings.catch_warnings():
            # Once, where the secret is read, is enough.
            warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
            return jwt.encode(dict(claims), self._all[0], algorithm=ALGORITHM)

    def verify(self, token: Signed) -> None:
        """
        Done when one of our secrets signed it.

        @raise TokenRefused: none did, or it names another algorithm than HS256
        """
        if token.algorithm != ALGORITHM:
            raise TokenRefused(Refusal.BAD, "its algorithm is not HS256")
        good = False
        for secret in self._all:
            expected = hmac.new(secret, token.signed, hashlib.sha256).digest()
            good |= hmac.compare_digest(expected, token.signature)
        if not good:
            raise TokenRefused(Refusal.BAD, "signed with none of our secrets")


def grant_of(claims: Mapping[str, Any]) -> Grant:
    """
    What claims of ours allow.

    @raise TokenRefused: one is missing or of the wrong type
    """
    token_id = claims.get("token_id")
    if not isinstance(token_id, str) or not 0 < len(token_id) <= 200 or not token_id.isprintable():
        raise TokenRefused(Refusal.BAD, "the claim token_id is missing or no short text")
    if claims.get("type") != TYPE:
        raise TokenRefused(Refusal.BAD, f"the claim type is not {TYPE}")
    roles = claims.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise TokenRefused(Refusal.BAD, "the claim roles is no list of texts")
    begins_at(claims)
    database_id = database_of(claims.get("database_id"))
    return Grant(token_id, "", database_id, time_of(claims, "exp"), tuple(roles))


def begins_at(claims: Mapping[str, Any]) -> float:
    """
    From when on a token of ours is good: its claim C{nbf}, which none that we issue has.

    @raise TokenRefused: it is there, and no time
    """
    return time_of(claims, "nbf") if "nbf" in claims else 0.0


def database_of(claim: object) -> DatabaseId:
    """
    The database that a claim names: a number a registered one, a text a connection.

    C{db_5} is the number 5: no connection can have such a name.

    @raise TokenRefused: it names none
    """
    if isinstance(claim, str) and claim.startswith("db_") and claim[3:].isdecimal():
        claim = int(claim[3:]) if claim.isascii() and len(claim) < 20 else None
    if isinstance(claim, bool) or not isinstance(claim, int | str) or not claim:
        raise TokenRefused(Refusal.BAD, "the claim database_id is missing, or no number or text")
    if isinstance(claim, str) and not (len(claim) <= 200 and claim.isprintable()):
        raise TokenRefused(Refusal.BAD, "the claim database_id is no short text")
    return claim


def time_of(claims: Mapping[str, Any], name: str) -> float:
    """
    A claim that is a time, in Unix seconds (RFC 7519, "NumericDate").

    @raise TokenRefused: it is missing, or no time
    """
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused(Refusal.BAD, f"the claim {name} is missing or no number")
    if not 0 <= value <= NO_TIME_LIMIT:
        raise TokenRefused(Refusal.BAD, f"the claim {name} is no time")
    return float(value)
