"""
Secrets at rest: AES-256-GCM under the C{state_key}.

A sealed secret belongs to a context, such as the DSN that its password is for.
Whoever can write to the store but does not have the key can so not point a
stored password at a server of his own.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_FORM = b"\x01"
_NONCE = 12
_PURPOSE = b"proxyd state_key"


class Unsealed(Exception):
    """A secret can't be opened: another key, another context, or it was changed."""


class Seal:
    """
    Closes and opens secrets.

    @param key: the C{state_key}'s text: any length, as it need not be random bytes
    """

    def __init__(self, key: bytes) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(key)
        self._cipher = AESGCM(derived)

    def close(self, secret: bytes, context: str) -> bytes:
        """A secret as it may be written down."""
        nonce = secrets.token_bytes(_NONCE)
        return _FORM + nonce + self._cipher.encrypt(nonce, secret, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """
        The secret again.

        @raise Unsealed: it is not what L{close} made of this context under this key
        """
        if sealed[:1] != _FORM:
            raise Unsealed("it has a form that this version does not know")
        nonce = sealed[1 : 1 + _NONCE]
        try:
            return self._cipher.decrypt(nonce, sealed[1 + _NONCE :], context.encode())
        except (InvalidTag, ValueError):
            raise Unsealed("it was encrypted with another state_key, or was changed") from None
