"""
Tests of L{proxyd.wire.pg.oauth}.
"""

from __future__ import annotations

import json
from struct import pack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError
from proxyd.wire.pg.errors import PgProtocolError
from proxyd.wire.pg.oauth import OAuthBearer


def response(data: bytes, mechanism: bytes = b"OAUTHBEARER") -> bytes:
    """The body of a SASLInitialResponse."""
    return mechanism + b"\0" + pack("!i", len(data)) + data


class ExchangeTests(SynchronousTestCase):
    """A token, and what is said of it."""

    def test_token(self) -> None:
        """The token of the example of RFC 7628, section 4.1, and shorter forms."""
        for data in (
            b"n,,\x01host=a\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01",
            b"y,,\x01auth=bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01",
            b"n,,\x01auth=BEARER  vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01",
        ):
            token = OAuthBearer().initial_response(response(data))
            self.assertEqual(token, b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")

    def test_discovery(self) -> None:
        """A client without a token asks where they are had, and acknowledges the answer."""
        exchange = OAuthBearer()
        self.assertEqual(exchange.initial_response(response(b"n,,\x01auth=\x01\x01")), b"")
        said = json.loads(exchange.refusal("https://id.example/.well-known/openid-configuration"))
        self.assertEqual(
            said,
            {
                "status": "invalid_token",
                "scope": "openid",
                "openid-configuration": "https://id.example/.well-known/openid-configuration",
            },
        )
        exchange.acknowledged(b"\x01")

    def test_unknown_configuration(self) -> None:
        """Where there is no document, none is named."""
        self.assertNotIn("openid-configuration", json.loads(OAuthBearer().refusal("")))

    def test_malformed(self) -> None:
        """What is not exactly so is refused."""
        good = b"n,,\x01auth=Bearer abc\x01\x01"
        for body in (
            b"",
            b"OAUTHBEARER",
            b"OAUTHBEARER\0",
            response(good, b"SCRAM-SHA-256"),
            response(good)[:-1],
            response(good) + b"x",
            b"OAUTHBEARER\0" + pack("!i", -1),
            b"OAUTHBEARER\0" + pack("!i", -5) + good,
            response(b""),
            response(b"p=tls-server-end-point,,\x01auth=Bearer abc\x01\x01"),
            response(b"n,a=admin,\x01auth=Bearer abc\x01\x01"),
            response(b"n\x01auth=Bearer abc\x01\x01"),
            response(b"n,\x01auth=Bearer abc\x01\x01"),
            response(b"x,,\x01auth=Bearer abc\x01\x01"),
            response(b"n,,auth=Bearer abc\x01\x01"),
            response(b"n,,\x01auth=Bearer abc\x01"),
            response(b"n,,\x01auth=Bearer abc"),
            response(b"n,,\x01\x01"),
            response(b"n,,\x01host=a\x01\x01"),
            response(b"n,,\x01auth\x01\x01"),
            response(b"n,,\x01a_b=c\x01auth=Bearer abc\x01\x01"),
            response(b"n,,\x01auth=Bearer abc\x01auth=Bearer abd\x01\x01"),
            response(b"n,,\x01auth=Basic abc\x01\x01"),
            response(b"n,,\x01auth=Bearer\x01\x01"),
            response(b"n,,\x01auth=Bearer \x01\x01"),
            response(b"n,,\x01auth=Bearer a b\x01\x01"),
            response(b"n,,\x01auth=Bearer a\0b\x01\x01"),
            response(b"n,,\x01auth=Bearer a=b\x01\x01"),
            response(b"n,,\x01auth=Bearer abc\x01\x01\x01"),
        ):
            with self.assertRaises(PgProtocolError, msg=str(body)):
                OAuthBearer().initial_response(body)

    def test_acknowledgement(self) -> None:
        """A refusal is acknowledged by one byte, and only where there was one."""
        exchange = OAuthBearer()
        self.assertRaises(LocalProtocolError, exchange.acknowledged, b"\x01")
        exchange.refusal("")
        for body in (b"", b"\x00", b"\x01\x01", b"n,,\x01auth=Bearer abc\x01\x01"):
            self.assertRaises(PgProtocolError, exchange.acknowledged, body)

    @given(st.one_of(st.binary(), st.builds(response, st.binary())))
    def test_noise(self, body: bytes) -> None:
        """Noise raises a protocol error and nothing else."""
        try:
            OAuthBearer().initial_response(body)
        except PgProtocolError:
            pass
