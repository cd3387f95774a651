"""
Tests of L{proxyd.auth.jwks}: when keys are fetched. What becomes of them with a real
server is in L{tests.auth.test_issuers}.
"""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.jwks import KeySet
from proxyd.auth.jws import read_token
from proxyd.config.token_settings import Issuer, KeyTimes
from proxyd.records import Refusal, TokenRefused
from tests.auth.identity import SigningKey

KEY = SigningKey("EdDSA", "one")
DOCUMENT = json.dumps({"keys": [KEY.published()]}).encode()


class KeySetTests(SynchronousTestCase):
    """Keys that are fetched, kept and fetched again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.fetches: list[Deferred[bytes]] = []
        issuer = Issuer("i", ("a",), "https://i/k")
        self.keys = KeySet(self.clock, issuer, self.fetch, KeyTimes(kept=600, pause=10))

    def fetch(self) -> Deferred[bytes]:
        """One fetch, under way."""
        self.fetches.append(Deferred())
        return self.fetches[-1]

    def verify(self, key: SigningKey = KEY) -> Deferred[None]:
        """One verification."""
        return Deferred.fromCoroutine(self.keys.verify(read_token(key.token({}))))

    def test_shared(self) -> None:
        """Tokens that come together wait for one fetch."""
        first, second = self.verify(), self.verify()
        self.assertEqual(len(self.fetches), 1)
        self.fetches[0].callback(DOCUMENT)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_kept(self) -> None:
        """After a while keys are looked at again, and nobody waits for that."""
        first = self.verify()
        self.fetches[0].callback(DOCUMENT)
        self.successResultOf(first)
        self.clock.advance(599)
        self.successResultOf(self.verify())
        self.assertEqual(len(self.fetches), 1)
        self.clock.advance(1)
        self.successResultOf(self.verify())
        self.successResultOf(self.verify())
        self.assertEqual(len(self.fetches), 2)
        self.fetches[1].errback(OSError("down"))
        self.successResultOf(self.verify())

    def test_given_up(self) -> None:
        """One who hangs up while keys are fetched takes them from nobody."""
        first, second = self.verify(), self.verify()
        first.cancel()
        self.failureResultOf(first)
        self.fetches[0].callback(DOCUMENT)
        self.successResultOf(second)

    def test_too_soon(self) -> None:
        """A failure is not repeated at once; tokens that come meanwhile don't wait."""
        first = self.verify()
        self.fetches[0].errback(OSError("down"))
        refused = self.failureResultOf(first, TokenRefused).value
        self.assertIs(refused.refusal, Refusal.ISSUER_LOST)
        self.failureResultOf(self.verify(), TokenRefused)
        self.assertEqual(len(self.fetches), 1)
        self.clock.advance(10)
        again = self.verify()
        self.fetches[1].callback(DOCUMENT)
        self.successResultOf(again)

    def test_stop(self) -> None:
        """A stop ends a fetch, and what waits for it."""
        first = self.verify()
        self.keys.stop()
        self.failureResultOf(first, TokenRefused)
