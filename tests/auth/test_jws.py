"""
Tests of L{proxyd.auth.jws}.
"""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.jws import LONGEST, looks_like_token, read_token
from proxyd.records import TokenRefused


def part(value: object) -> bytes:
    """JSON as base64url."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def a_token(header: object, claims: object = None, signature: bytes = b"sig") -> bytes:
    """A token of these parts."""
    return b".".join((part(header), part({} if claims is None else claims), part(signature)))


class ReadTests(SynchronousTestCase):
    """Tokens taken apart."""

    def test_good(self) -> None:
        """Header, claims and what is signed."""
        token = a_token({"alg": "HS256", "kid": "k", "jku": "https://evil"}, {"a": 1})
        signed = read_token(token)
        self.assertEqual((signed.algorithm, signed.kid, signed.claims), ("HS256", "k", {"a": 1}))
        self.assertEqual(signed.signed, token.rpartition(b".")[0])
        self.assertEqual(signed.signature, b"sig")
        self.assertNotIn("sig", repr(signed))

    def test_refused(self) -> None:
        """Everything that is not exactly a signed JWT."""
        good = {"alg": "HS256"}
        wrong = {
            "two parts": part(good) + b"." + part({}),
            "four parts": a_token(good) + b".x",
            "five parts (encrypted)": b".".join([part({"alg": "dir", "enc": "A"})] * 5),
            "padding": part(good) + b"=." + part({}) + b".AA",
            "not canonical": part(good) + b"." + part({}) + b".AB",
            "no base64": part(good) + b".!!!.AA",
            "length 1 mod 4": part(good) + b"." + part({}) + b".AAAAA",
            "header no JSON": part(b"{") + b"." + part({}) + b".AA",
            "header no object": a_token([good]),
            "claims no object": a_token(good, [1]),
            "claims no JSON": a_token(good, b"nope"),
            "claims no UTF-8": a_token(good, b'{"a":"\xff"}'),
            "a name twice": a_token(good, b'{"exp":1,"exp":2}'),
            "a header name twice": a_token(b'{"alg":"none","alg":"HS256"}'),
            "NaN": a_token(good, b'{"exp":NaN}'),
            "very deep": a_token(good, b'{"a":' + b"[" * 20000),
            "no alg": a_token({"typ": "JWT"}),
            "alg no text": a_token({"alg": ["HS256"]}),
            "crit": a_token({**good, "crit": ["exp"]}),
            "b64": a_token({**good, "b64": False}),
            "nested": a_token({**good, "cty": "JWT"}),
            "compressed": a_token({**good, "zip": "DEF"}),
            "typ": a_token({**good, "typ": "secevent+jwt"}),
            "kid no text": a_token({**good, "kid": {"a": 1}}),
            "kid long": a_token({**good, "kid": "k" * 501}),
            "header long": a_token({**good, "x": "k" * 9000}),
            "too long": a_token(good, {"a": "x" * LONGEST}),
            "empty": b"",
            "dots": b"..",
        }
        for name, token in wrong.items():
            with self.assertRaises(TokenRefused, msg=name):
                read_token(token)

    @given(st.one_of(st.binary(max_size=200), st.builds(a_token, st.binary(), st.binary())))
    def test_noise(self, data: bytes) -> None:
        """Noise raises TokenRefused and nothing else."""
        try:
            read_token(data)
        except TokenRefused:
            pass
        looks_like_token(data)


class ShapeTests(SynchronousTestCase):
    """Password or token?"""

    def test_shape(self) -> None:
        """Three parts of base64url, the first a JSON object: also where the rest is nonsense."""
        for token in (a_token({"alg": "none"}), part({"alg": "x"}) + b"..", part({}) + b".a.b"):
            self.assertTrue(looks_like_token(token), token)
        good = a_token({"alg": "HS256"}, {"exp": 5})
        encrypted = part({"alg": "dir"}) + b"..AA.AA.AA"
        for token in (good + b" ", b"\t" + good, good + b"\r\n", good + b"==", encrypted):
            self.assertTrue(looks_like_token(token), token)
            self.assertRaises(TokenRefused, read_token, token)
        for password in (
            b"",
            b"hunter2",
            b"a.b.c",
            b"a.b",
            part({}) + b".$.x",
            b"....",
            b"ey.a.b",
            b"  ",
            b"a b.c.d",
            b"=.=.=",
        ):
            self.assertFalse(looks_like_token(password), password)
