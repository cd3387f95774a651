"""
How a data channel is encrypted with a KMS key: the layout, not the cipher.

Sessions that forward a port never are (the agent's isEncryptionEnabled); this
is what a shell session would need. AES-256-GCM without additional data; a
payload is the nonce, the cipher text and the tag.
"""

from __future__ import annotations

import base64
import json

NONCE = 12
TAG = 16
KEYS = 64
"""Bytes: of a nonce, a tag, and of the data key that KMS gives."""


def our_key(data_key: bytes) -> bytes:
    """The half of the data key that the client encrypts with."""
    return _whole(data_key)[32:]


def agents_key(data_key: bytes) -> bytes:
    """The half that the agent encrypts with."""
    return _whole(data_key)[:32]


def join(nonce: bytes, cipher_text_and_tag: bytes) -> bytes:
    """A payload of its parts."""
    return nonce + cipher_text_and_tag


def split(payload: bytes) -> tuple[bytes, bytes]:
    """
    The nonce, and cipher text with tag.

    @raise ValueError: it is too short
    """
    if len(payload) < NONCE + TAG:
        raise ValueError("an encrypted payload is too short")
    return payload[:NONCE], payload[NONCE:]


def key_result(cipher_text_key: bytes, *, challenged: bool = False) -> str:
    """
    The ActionResult of the action KMSEncryption.

    @param cipher_text_key: the data key as KMS encrypted it
    @param challenged: the challenge was part of the encryption context
    """
    said: dict[str, object] = {
        "KMSCipherTextKey": base64.b64encode(cipher_text_key).decode("ascii"),
        "KMSCipherTextHash": None,
    }
    if challenged:
        said["ChallengeAcknowledgement"] = True
    return json.dumps(said, separators=(",", ":"))


def _whole(data_key: bytes) -> bytes:
    if len(data_key) != KEYS:
        raise ValueError(f"a data key has {KEYS} bytes")
    return data_key
