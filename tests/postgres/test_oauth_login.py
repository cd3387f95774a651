"""
Tests of L{proxyd.postgres.oauth_login}; with libpq 18 in L{tests.integration.test_oauth}.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.model import Connection, Dsn
from proxyd.postgres.admission import Admission
from proxyd.postgres.answers import Fatal
from proxyd.postgres.directory import Place
from proxyd.postgres.oauth_login import ByOAuth
from proxyd.target import Principal
from tests.postgres.strangers import FakeStranger, begun
from tests.postgres.tokens import known_tokens
from tests.wire.pg.test_oauth import response

SHOP = Place(SimpleNamespace(connection=Connection("shop", Dsn(()))), "shop", True)  # type: ignore[arg-type]
ANY = Principal("token", "192.0.2.1")


class OAuthTests(SynchronousTestCase):
    """A token by SASL."""

    def setUp(self) -> None:
        self.tokens = known_tokens()
        self.issued = self.successResultOf(self.tokens.issue("shop"))
        self.way = ByOAuth(self.tokens)

    def stranger(self, token: str, *more: bytes, tls: bool = True) -> FakeStranger:
        """A client that sends a token, and then more."""
        said = f"Bearer {token}" if token else ""
        first = response(b"n,,\x01auth=" + said.encode() + b"\x01\x01")
        stranger = FakeStranger(first, *more)
        stranger.end = SimpleNamespace(secure=object() if tls else None)
        return stranger

    def refused(self, stranger: FakeStranger, place: Place | None = SHOP) -> str:
        """The SQLSTATE."""
        sqlstate: str
        sqlstate = self.failureResultOf(
            begun(self.way.admit(stranger, place, ANY)), Fatal
        ).value.sqlstate
        return sqlstate

    def test_good(self) -> None:
        """It lets in, with one question."""
        stranger = self.stranger(self.issued.token)
        admission: Admission = self.successResultOf(begun(self.way.admit(stranger, SHOP, ANY)))
        self.assertEqual(admission.principal, ANY)
        assert admission.term is not None
        self.assertEqual(admission.term.grant.token_id, self.issued.token_id)
        self.assertEqual(len(stranger.asked), 1)

    def test_without_tls(self) -> None:
        """Without TLS nothing is asked, also from loopback."""
        stranger = self.stranger(self.issued.token, tls=False)
        self.assertEqual(self.refused(stranger), "28000")
        self.assertEqual(stranger.asked, [])

    def test_refused(self) -> None:
        """What is refused is told twice: in JSON, and by an error; also for a name of nothing."""
        self.successResultOf(self.tokens.revoke(self.issued.token_id))
        for token, place, sqlstate in (
            (self.issued.token, SHOP, "28000"),
            (self.issued.token, None, "28000"),
            ("nonsense", SHOP, "28P01"),
            ("", SHOP, "28P01"),
        ):
            stranger = self.stranger(token, b"\x01")
            self.assertEqual(self.refused(stranger, place), sqlstate)
            request, _ = stranger.asked[1]
            self.assertEqual(json.loads(request[9:])["status"], "invalid_token")
