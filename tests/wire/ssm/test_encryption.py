"""Tests for L{proxyd.wire.ssm.encryption}."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from twisted.trial.unittest import TestCase

from proxyd.wire.ssm import encryption
from tests.wire.ssm.sources import vectors


class EncryptionTests(TestCase):
    """Payloads and keys as the real peers have them."""

    def test_payloads(self) -> None:
        """V11 and A6: each direction has its half of the key."""
        found = vectors()
        data_key = bytes.fromhex(found["V11"]["crypto"]["kms_plaintext_64_bytes"])
        for name, key in (
            ("V11", encryption.our_key(data_key)),
            ("A6", encryption.agents_key(data_key)),
        ):
            payload = bytes.fromhex(found[name]["data"])
            nonce, rest = encryption.split(payload)
            self.assertEqual(AESGCM(key).decrypt(nonce, rest, None), b"hello", name)
            self.assertEqual(
                encryption.join(nonce, AESGCM(key).encrypt(nonce, b"hello", None)), payload
            )

    def test_result(self) -> None:
        """V12: what the hand-shake says of the key."""
        self.assertEqual(encryption.key_result(b"CIPHERTEXTBLOB"), vectors()["V12"]["data"])
        self.assertIn("ChallengeAcknowledgement", encryption.key_result(b"x", challenged=True))

    def test_refused(self) -> None:
        """Half a key, and a payload that is none."""
        with self.assertRaises(ValueError):
            encryption.our_key(bytes(32))
        with self.assertRaises(ValueError):
            encryption.split(bytes(27))
