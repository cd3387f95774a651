"""
Tests of L{proxyd.auth.issuers}, with a real server of keys on loopback.
"""

from __future__ import annotations

import json

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.auth.fetch import Fetcher
from proxyd.auth.issuers import Issuers
from proxyd.auth.jwks import Fetch
from proxyd.auth.jws import read_token
from proxyd.config.token_settings import Issuer, KeyTimes
from proxyd.errors import StartError
from proxyd.records import Grant, Refusal, TokenRefused
from tests.auth.identity import ISSUER, Publisher, SigningKey, claims, settled
from tests.postgres.client import until

TIMES = KeyTimes(kept=600, pause=0, fetch=20)
KEY = SigningKey("EdDSA", "one")


class IssuersTests(TestCase):
    """Tokens of somebody else's."""

    async def setUp(self) -> None:
        """An issuer with one key."""
        self.key = SigningKey("ES256", "one")
        self.publisher = Publisher(self.key)
        await self.publisher.start()
        self.addCleanup(self.publisher.stop)
        self.issuers = self.believing()

    def believing(self, times: KeyTimes = TIMES, **changes: object) -> Issuers:
        """Who believes this issuer."""
        issuer = Issuer(ISSUER, ("proxyd",), self.publisher.url, **changes)  # type: ignore[arg-type]
        issuers = Issuers(reactor, lambda one: Fetcher(reactor, one, times), times)
        issuers.adopt([issuer])
        self.addCleanup(issuers.stop)
        return issuers

    async def check(self, token: bytes) -> Grant:
        """What a token allows."""
        return await self.issuers.check(read_token(token), token)

    async def refused(self, token: bytes) -> Refusal:
        """Why it allows nothing."""
        try:
            await self.check(token)
        except TokenRefused as refused:
            return refused.refusal
        raise AssertionError("it was taken")

    def good(self, **changes: object) -> bytes:
        """A good token, with changes."""
        return self.key.token(claims(reactor.seconds(), **changes))

    async def test_good(self) -> None:
        """It allows what its claims say; the keys are fetched once."""
        grant = await self.check(self.good(jti="j1", sub="ann"))
        self.assertEqual((grant.issuer, grant.token_id), (ISSUER, "j1"))
        self.assertEqual((grant.database_id, grant.roles), ("shop", ("ann",)))
        for _ in range(5):
            await self.check(self.good())
        self.assertEqual(self.publisher.asked, 1)

    async def test_each_algorithm(self) -> None:
        """RS256, ES256 and EdDSA."""
        keys = [SigningKey(name, name) for name in ("RS256", "ES256", "EdDSA")]
        self.publisher.keys = [key.published() for key in keys]
        for key in keys:
            await self.check(key.token(claims(reactor.seconds())))

    async def test_other_claims(self) -> None:
        """The claims of database and role are named by the configuration; roles may be many."""
        self.issuers = self.believing(database_claim="db", role_claim="roles")
        grant = await self.check(self.good(db=7, roles=["ann", "bob"]))
        self.assertEqual((grant.database_id, grant.roles), (7, ("ann", "bob")))
        self.assertEqual((await self.check(self.good(db=7))).roles, ())

    async def test_without_jti(self) -> None:
        """A token without an id has its hash for one, so that it can be revoked."""
        grant = await self.check(self.good(jti=None))
        self.assertTrue(grant.token_id.startswith("sha256:"))

    async def test_skew(self) -> None:
        """A clock that differs by some seconds is no reason to refuse."""
        now = int(reactor.seconds())
        await self.check(self.good(nbf=now + 10, iat=now + 10))
        await self.check(self.good(exp=now - 10))
        self.assertEqual(await self.refused(self.good(exp=now - 60)), Refusal.EXPIRED)
        self.assertEqual(await self.refused(self.good(nbf=now + 90)), Refusal.BAD)
        self.assertEqual(await self.refused(self.good(iat=now + 90)), Refusal.BAD)

    async def test_rotation(self) -> None:
        """A new key is fetched when its first token comes; one taken away is good no more."""
        await self.check(self.good())
        old, new = self.good(), SigningKey("EdDSA", "two")
        self.publisher.keys = [new.published()]
        await self.check(new.token(claims(reactor.seconds())))
        self.assertEqual(self.publisher.asked, 2)
        self.assertEqual(await self.refused(old), Refusal.BAD)

    async def test_bounded(self) -> None:
        """Whatever kids are invented, keys are fetched once in a while only."""
        self.issuers = self.believing(KeyTimes(pause=3600, fetch=20))
        await self.check(self.good())
        for number in range(20):
            stranger = SigningKey("EdDSA", f"invented{number}")
            refusal = await self.refused(stranger.token(claims(reactor.seconds())))
            self.assertEqual(refusal, Refusal.BAD)
        self.assertEqual(self.publisher.asked, 1)

    async def test_issuer_down(self) -> None:
        """The keys that are known go on while the issuer is down, lies, or sends nonsense."""
        await self.check(self.good())
        for manner in ("error", "nonsense", "huge", "redirect"):
            self.publisher.manner = manner
            stranger = SigningKey("ES256", manner)
            self.assertEqual(
                await self.refused(stranger.token(claims(reactor.seconds()))), Refusal.BAD
            )
            await self.check(self.good())
        self.publisher.manner, self.publisher.keys = "well", []
        await self.refused(SigningKey("ES256", "x").token(claims(reactor.seconds())))
        await self.check(self.good())
        await self.publisher.stop()
        await self.refused(SigningKey("ES256", "y").token(claims(reactor.seconds())))
        await self.check(self.good())

    async def test_never_up(self) -> None:
        """Where keys were never had, it is the issuer's fault; when it is there, all is well."""
        await self.publisher.stop()
        self.assertEqual(await self.refused(self.good()), Refusal.ISSUER_LOST)
        await self.publisher.start()
        await self.check(self.good())

    async def test_slow(self) -> None:
        """An issuer that does not answer is given up; known keys don't wait for it."""
        self.issuers = self.believing(KeyTimes(kept=0, pause=0, fetch=0.2))
        await self.check(self.good())
        self.publisher.manner = "slow"
        await self.check(self.good())
        await until(lambda: self.publisher.asked >= 2, "the keys to be fetched again")
        self.assertEqual(
            await self.refused(SigningKey("ES256", "z").token(claims(reactor.seconds()))),
            Refusal.BAD,
        )

    async def test_adopt(self) -> None:
        """A reload keeps the keys of an issuer that stays, and forgets one that goes."""
        issuer = self.issuers._known[ISSUER][0]
        await self.check(self.good())
        self.issuers.adopt([issuer])
        await self.check(self.good())
        self.assertEqual(self.publisher.asked, 1)
        self.issuers.adopt([])
        self.assertEqual(await self.refused(self.good()), Refusal.BAD)

    async def tearDown(self) -> None:
        """Let sockets close."""
        self.issuers.stop()
        await self.publisher.stop()
        await settled()


class AdoptTests(SynchronousTestCase):
    """Which issuers are believed, and by which clock their keys get old."""

    def setUp(self) -> None:
        self.hour, self.steady = Clock(), Clock()
        self.hour.advance(1_800_000_000)
        self.fetched: list[str] = []
        self.issuers = Issuers(self.hour, self.fetch_of, KeyTimes(kept=600, pause=10), self.steady)
        self.addCleanup(self.issuers.stop)

    def fetch_of(self, issuer: Issuer) -> Fetch:
        """Gives keys, but for one whose certificates are gone."""
        if issuer.ca is not None:
            raise StartError("certificates: no such file")

        def fetch() -> Deferred[bytes]:
            self.fetched.append(issuer.issuer)
            return succeed(json.dumps({"keys": [KEY.published()]}).encode())

        return fetch

    def issuer(self, name: str, ca: str | None = None) -> Issuer:
        """One that is configured so."""
        return Issuer(name, ("proxyd",), f"https://{name}/keys", ca=ca)

    def check(self, name: str) -> None:
        """A token of this issuer is good."""
        token = KEY.token(claims(self.hour.seconds(), iss=name))
        self.successResultOf(Deferred.fromCoroutine(self.issuers.check(read_token(token), token)))

    def test_all_or_none(self) -> None:
        """Where one can't be believed, the others are those of before."""
        self.issuers.adopt([self.issuer("a"), self.issuer("b")])
        with self.assertRaises(StartError):
            self.issuers.adopt([self.issuer("c"), self.issuer("b", ca="/no/such/file")])
        self.check("a")
        self.check("b")

    def test_clock_set_back(self) -> None:
        """Keys get old by a clock that nobody sets."""
        self.issuers.adopt([self.issuer("a")])
        self.check("a")
        self.hour.rightNow -= 86400
        self.steady.advance(601)
        self.check("a")
        self.assertEqual(self.fetched, ["a", "a"])
