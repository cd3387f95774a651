"""
An issuer's published keys: which of them verify what (JWK, RFC 7517, RFC 7518, RFC 8037).

Each key is for one algorithm, by what it is: never by what a token's header
says. Symmetric keys are none of an issuer's, and short ones are not taken.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from proxyd.auth.jws import Signed
from proxyd.records import Refusal, TokenRefused

LEAST_RSA = 2048
"""Bits of the shortest RSA key that is taken (RFC 7518, section 3.3)."""

MOST_KEYS = 100

_CURVES = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_LONGEST_RSA = 8192


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """
    One public key.

    @param algorithm: what it is for: RS256, ES256 or EdDSA
    @param kid: None: the issuer gave it none
    """

    algorithm: str
    kid: str | None
    key: Any = field(repr=False)

    def verifies(self, token: Signed) -> bool:
        """Whether this key signed a token."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        try:
            return bool(algorithm.verify(token.signed, self.key, token.signature))
        except (ValueError, TypeError):
            return False


def read_keys(data: bytes) -> tuple[VerifyingKey, ...]:
    """
    The keys of a JWK set that can be used; the others are left out.

    Where a C{kid} stands twice nobody knows which key is meant: neither is taken.

    @raise ValueError: it is no JWK set
    """
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("it is no JSON") from None
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or len(keys) > MOST_KEYS:
        raise ValueError("it is no set of keys")
    taken = [one for one in map(_key, keys) if one is not None]
    count = Counter(key.get("kid") for key in keys if _has_kid(key))
    return tuple(one for one in taken if one.kid is None or count[one.kid] == 1)


def _has_kid(key: object) -> bool:
    return isinstance(key, dict) and isinstance(key.get("kid"), str)


def _key(said: object) -> VerifyingKey | None:
    """One key; None: it can't be used."""
    if not isinstance(said, dict):
        return None
    kid = said.get("kid")
    if not (kid is None or isinstance(kid, str)) or not _for_signatures(said):
        return None
    kind = said.get("kty")
    if not isinstance(kind, str) or not isinstance(said.get("crv"), str | None):
        return None
    algorithm = _CURVES.get((kind, said.get("crv")))
    if algorithm is None or said.get("alg", algorithm) != algorithm:
        return None
    public = {
        name: value for name, value in said.items() if name in ("kty", "crv", "n", "e", "x", "y")
    }
    try:
        key = jwt.PyJWK(public, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    size = getattr(key, "key_size", LEAST_RSA)
    if algorithm == "RS256" and not LEAST_RSA <= size <= _LONGEST_RSA:
        return None
    return VerifyingKey(algorithm, kid, key)


def _for_signatures(said: Mapping[str, Any]) -> bool:
    if said.get("use", "sig") != "sig" or "d" in said or "k" in said:
        return False
    operations = said.get("key_ops", ["verify"])
    return isinstance(operations, list) and "verify" in operations


def key_for(
    token: Signed, keys: tuple[VerifyingKey, ...], allowed: tuple[str, ...]
) -> VerifyingKey | None:
    """
    The key that must have signed a token; None: there is none that could.

    @raise TokenRefused: its algorithm is not one of this issuer's, or not its key's
    """
    if token.algorithm not in allowed:
        raise TokenRefused(Refusal.BAD, "its algorithm is not one of its issuer's")
    if token.kid is None:
        fitting = [one for one in keys if one.algorithm == token.algorithm]
        return fitting[0] if len(fitting) == 1 else None
    for one in keys:
        if one.kid == token.kid:
            if one.algorithm != token.algorithm:
                raise TokenRefused(Refusal.BAD, "its algorithm is not its key's")
            return one
    return None
