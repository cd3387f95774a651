"""
Tests of L{proxyd.auth.jwk}.
"""

from __future__ import annotations

import json

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.jwk import MOST_KEYS, key_for, read_keys
from proxyd.auth.jws import read_token
from proxyd.config.token_settings import ALGORITHMS
from proxyd.records import TokenRefused
from tests.auth.identity import SigningKey

EC = SigningKey("ES256", "ec")
ED = SigningKey("EdDSA", "ed")


def document(*keys: object) -> bytes:
    """A JWK set."""
    return json.dumps({"keys": keys}).encode()


class ReadTests(SynchronousTestCase):
    """Which keys are taken."""

    def kids(self, *keys: object) -> list[str | None]:
        """Those of the keys that are taken."""
        return [key.kid for key in read_keys(document(*keys))]

    def test_taken(self) -> None:
        """Keys for signatures, each with the algorithm that it is for."""
        found = read_keys(document(EC.published(), ED.published(alg="EdDSA")))
        self.assertEqual(
            [(key.kid, key.algorithm) for key in found], [("ec", "ES256"), ("ed", "EdDSA")]
        )

    def test_left_out(self) -> None:
        """Keys that are for something else, secret, short, of another curve, or broken."""
        short = jwt.get_algorithm_by_name("RS256").to_jwk(
            generate_private_key(65537, 1024).public_key(), as_dict=True
        )
        for wrong in (
            EC.published(use="enc"),
            EC.published(key_ops=["sign"]),
            EC.published(key_ops="verify"),
            EC.published(alg="HS256"),
            EC.published(alg="RS256"),
            EC.published(crv="P-384"),
            EC.published(kty="RSA"),
            EC.published(kty="oct", k="c2VjcmV0"),
            EC.published(d="AAAA"),
            EC.published(x="!!"),
            EC.published(x="AAAA"),
            EC.published(kid=7),
            {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "oct"},
            dict(short),
            {"kty": ["RSA"]},
            "text",
            None,
            {},
        ):
            self.assertEqual(self.kids(wrong, ED.published()), ["ed"], wrong)

    def test_twice(self) -> None:
        """Of two keys with one kid neither is taken, also where one of them is of no use."""
        twin = SigningKey("ES256", "ec")
        self.assertEqual(self.kids(EC.published(), twin.published(), ED.published()), ["ed"])
        self.assertEqual(self.kids(EC.published(), twin.published(use="enc")), [])

    def test_no_set(self) -> None:
        """What is no set of keys at all."""
        for wrong in (b"", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 50_000):
            self.assertRaises(ValueError, read_keys, wrong)
        self.assertRaises(ValueError, read_keys, document(*[EC.published()] * (MOST_KEYS + 1)))


class ChoiceTests(SynchronousTestCase):
    """Which key a token is for."""

    def test_by_kid(self) -> None:
        """The kid says which; the algorithm must be that key's, and one of the issuer's."""
        keys = read_keys(document(EC.published(), ED.published()))
        token = read_token(EC.token({}))
        self.assertEqual(key_for(token, keys, ALGORITHMS), keys[0])
        self.assertTrue(keys[0].verifies(token))
        self.assertFalse(keys[1].verifies(token))
        self.assertIsNone(key_for(read_token(EC.token({}, kid="other")), keys, ALGORITHMS))
        with self.assertRaises(TokenRefused):
            key_for(read_token(EC.token({}, kid="ed")), keys, ALGORITHMS)
        with self.assertRaises(TokenRefused):
            key_for(token, keys, ("RS256",))

    def test_without_kid(self) -> None:
        """Without a kid there must be one key only that fits."""
        nameless = SigningKey("ES256", None)
        token = read_token(nameless.token({}))
        keys = read_keys(document(nameless.published(), ED.published()))
        self.assertEqual(key_for(token, keys, ALGORITHMS), keys[0])
        both = read_keys(document(nameless.published(), EC.published()))
        self.assertIsNone(key_for(token, both, ALGORITHMS))
