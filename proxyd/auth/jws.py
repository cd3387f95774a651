"""
A token's bytes: the compact form of a signed JWT, read strictly (RFC 7515, RFC 7519, RFC 8725).

Nothing is believed here: whoever asked compares the algorithm with what the key
is for, and the signature with the key. What a header says of where keys are to
be found (jku, jwk, x5u, x5c) is looked at by nobody.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from proxyd.records import Refusal, TokenRefused

LONGEST = 65_535
"""Bytes of the longest token that is looked at: what a password may have."""

_LONGEST_HEADER = 8192
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
# Each would change what the rest means: b64 (RFC 7797), crit, encryption, nested tokens.
_NOT_TAKEN = ("crit", "b64", "enc", "zip", "cty")
_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True, slots=True)
class Signed:
    """
    A token taken apart, nothing of it believed.

    @param algorithm: the header's C{alg}
    @param kid: the header's C{kid}; None: it has none
    @param signed: the bytes that the signature is for
    """

    algorithm: str
    kid: str | None
    claims: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def read_token(token: bytes) -> Signed:
    """
    Take a token apart.

    @raise TokenRefused: it is no signed JWT in compact form, or asks for what
        is not taken
    """
    if len(token) > LONGEST:
        _bad("it is longer than 64 KiB")
    parts = token.split(b".")
    if len(parts) != 3:
        _bad("it does not have three parts")
    if len(parts[0]) > _LONGEST_HEADER:
        _bad("its header is too long")
    header = _object(parts[0], "header")
    for word in _NOT_TAKEN:
        if word in header:
            _bad(f"its header says {word}")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str):
        _bad("its header names no alg")
    if not (kid is None or (isinstance(kid, str) and len(kid) <= 500)):
        _bad("its kid is no short text")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        _bad("its typ is another")
    claims = _object(parts[1], "claims")
    signature = _decoded(parts[2], "signature")
    return Signed(algorithm, kid, claims, b".".join(parts[:2]), signature)


def looks_like_token(password: bytes) -> bool:
    """
    Whether a password is a JWT by its shape: parts of base64url, the first a JSON object.

    Decides for C{auth: [backend, token]}: such a password never goes to a server. So one that
    was pasted with blanks, written with padding, or encrypted (five parts: RFC 7516) is one,
    too, though it is no good.
    """
    parts = [part.rstrip(b"=") for part in password.strip().split(b".")]
    whole = len(parts) in (3, 5) and all(_ALPHABET.issuperset(part) for part in parts)
    if not whole or not parts[0]:
        return False
    padded = parts[0] + b"=" * (-len(parts[0]) % 4)
    try:
        return isinstance(json.loads(base64.urlsafe_b64decode(padded)), dict)
    except (ValueError, RecursionError):
        return False


def _object(part: bytes, what: str) -> dict[str, Any]:
    """The JSON object that a part holds; names that come twice and NaN are refused."""
    try:
        found = json.loads(
            _decoded(part, what).decode("utf-8"),
            object_pairs_hook=_each_once,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError):
        _bad(f"its {what} is no JSON")
    if not isinstance(found, dict):
        _bad(f"its {what} is no JSON object")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError("not a number")


def _decoded(part: bytes, what: str) -> bytes:
    """base64url without padding, in the one form that these bytes have (RFC 7515, section 2)."""
    if not _ALPHABET.issuperset(part):
        _bad(f"its {what} is no base64url")
    try:
        data = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error:
        _bad(f"its {what} is no base64url")
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part:
        _bad(f"its {what} is no base64url as it is to be written")
    return data


def _bad(what: str) -> NoReturn:
    raise TokenRefused(Refusal.BAD, what)
