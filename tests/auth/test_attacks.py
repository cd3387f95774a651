"""
Attacks on tokens, each with the SQLSTATE that its client is told.

Source: RFC 8725 ("JSON Web Token Best Current Practices"), section 2 above all,
and what became of it in the libraries.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from proxyd.auth.issued import OwnSecret
from proxyd.auth.tokens import Tokens
from proxyd.config.model import Connection, Dsn
from proxyd.config.token_settings import Issuer, TokenSettings
from proxyd.postgres.answers import Fatal
from proxyd.postgres.directory import Place
from proxyd.postgres.token_login import TokenCheck
from proxyd.store.memory import MemoryStore
from proxyd.target import Principal
from tests.auth.identity import ISSUER, Publisher, SigningKey, claims, settled
from tests.postgres.tokens import SECRET

BAD, NOT_ALLOWED = "28P01", "28000"
RSA, EC = SigningKey("RS256", "rsa"), SigningKey("ES256", "ec")


def part(value: object) -> bytes:
    """JSON (or bytes) as base64url."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed(header: dict[str, Any], said: object, secret: bytes) -> bytes:
    """A token with any header, signed by HMAC."""
    body = part(header) + b"." + part(said)
    return body + b"." + part(hmac.new(secret, body, hashlib.sha256).digest())


class _Server:
    """What a place leads to, as far as a login looks at it."""

    def __init__(self, name: str) -> None:
        self.connection = Connection(name, Dsn(()))


class AttackTests(TestCase):
    """
    Every attack of the table.

    @ivar ours: claims of a token that was issued
    @ivar good: that token
    """

    async def setUp(self) -> None:
        """Tokens of our own and of an issuer, for the connection shop."""
        self.publisher = Publisher(RSA, EC)
        await self.publisher.start()
        self.addCleanup(self.publisher.stop)
        issuer = Issuer(ISSUER, ("proxyd",), self.publisher.url)
        self.store = MemoryStore()
        await self.store.open()
        self.tokens = Tokens(
            reactor,
            self.store,
            OwnSecret(SECRET),
            TokenSettings(issuers=(issuer,)),
            lambda: ["shop", "orders"],
        )
        await self.tokens.load()
        self.addCleanup(self.tokens.issuers.stop)
        self.good = (await self.tokens.issue("shop")).token.encode()
        payload = self.good.split(b".")[1]
        self.ours = json.loads(base64.urlsafe_b64decode(payload + b"=="))

    async def refused(self, token: bytes, user: str = "token", place: str = "shop") -> str:
        """The SQLSTATE of a login by this token."""
        where = Place(_Server(place), place, True)  # type: ignore[arg-type]
        try:
            await TokenCheck(self.tokens).check(where, Principal(user, "192.0.2.1"), token)
        except Fatal as fatal:
            middle = token[len(token) // 3 :][:20]
            if len(middle) == 20:
                self.assertNotIn(middle, fatal.encode() + fatal.reason.encode())
            return fatal.sqlstate
        return "let in"

    def theirs(self, key: SigningKey = EC, **changes: Any) -> bytes:
        """An issuer's token, with changes of its claims."""
        return key.token(claims(reactor.seconds(), **changes))

    def public(self, form: PublicFormat, encoding: Encoding = Encoding.PEM) -> bytes:
        """The issuer's RSA key as an attacker has it."""
        key: bytes = RSA.private.public_key().public_bytes(encoding, form)
        return key

    def header(self, **said: Any) -> bytes:
        """The good token's claims under another header, with our own secret."""
        return signed({"alg": "HS256", "typ": "JWT", **said}, self.ours, SECRET)

    def attacks(self) -> dict[str, tuple[Callable[[], bytes], str]]:
        """By what each does: the token, and what it is answered by."""
        head, body, signature = self.good.split(b".")
        ours, hs, now = self.ours, {"alg": "HS256"}, int(reactor.seconds())
        stranger = SigningKey("ES256", "ec")
        nested = claims(now)
        info = PublicFormat.SubjectPublicKeyInfo
        return {
            # The algorithm (RFC 8725, 2.1, 3.1, 3.2)
            "alg none": (lambda: part({"alg": "none"}) + b"." + body + b".", BAD),
            "alg None": (lambda: part({"alg": "None"}) + b"." + body + b".", BAD),
            "alg nOnE, signed": (lambda: signed({"alg": "nOnE"}, ours, SECRET), BAD),
            "alg empty": (lambda: signed({"alg": ""}, ours, SECRET), BAD),
            "alg missing": (lambda: signed({"typ": "JWT"}, ours, SECRET), BAD),
            "alg null": (lambda: signed({"alg": None}, ours, SECRET), BAD),
            "alg a list": (lambda: signed({"alg": ["HS256", "none"]}, ours, SECRET), BAD),
            "alg HS512 with our secret": (
                lambda: jwt.encode(ours, SECRET, "HS512").encode(),
                BAD,
            ),
            "alg hs256": (lambda: signed({"alg": "hs256"}, ours, SECRET), BAD),
            "RS256 key as HMAC secret, PEM": (
                lambda: signed({**hs, "kid": "rsa"}, nested, self.public(info)),
                BAD,
            ),
            "RS256 key as HMAC secret, DER": (
                lambda: signed(hs, nested, self.public(info, Encoding.DER)),
                BAD,
            ),
            "JWK as HMAC secret": (
                lambda: signed(hs, nested, json.dumps(RSA.published()).encode()),
                BAD,
            ),
            "RS256 named, EC key meant": (
                lambda: RSA.token(claims(now), kid="ec"),
                BAD,
            ),
            "PS256": (
                lambda: jwt.encode(
                    claims(now), RSA.private, "PS256", headers={"kid": "rsa"}
                ).encode(),
                BAD,
            ),
            # The signature
            "no signature": (lambda: head + b"." + body + b".", BAD),
            "signature cut": (lambda: self.good[:-4], BAD),
            "signature of another token": (
                lambda: part(hs) + b"." + part({**ours, "exp": now + 9**9}) + b"." + signature,
                BAD,
            ),
            "ES256 signature of noughts": (
                lambda: self.theirs().rpartition(b".")[0] + b"." + part(bytes(64)),
                BAD,
            ),
            "another issuer's key under a known kid": (lambda: self.theirs(stranger), BAD),
            "signed with the empty secret": (lambda: signed(hs, ours, b""), BAD),
            # Where keys are to be found (3.10)
            "jwk in the header": (
                lambda: stranger.token(claims(now), jwk=stranger.published()),
                BAD,
            ),
            "jku in the header": (
                lambda: stranger.token(claims(now), jku="http://127.0.0.1:1/keys"),
                BAD,
            ),
            "x5u in the header": (
                lambda: stranger.token(claims(now), x5u="http://127.0.0.1:1/c"),
                BAD,
            ),
            "x5c in the header": (lambda: stranger.token(claims(now), x5c=["AAAA"]), BAD),
            "kid a path": (lambda: stranger.token(claims(now), kid="../../dev/null"), BAD),
            "kid an injection": (lambda: stranger.token(claims(now), kid="' OR 1=1 --"), BAD),
            "kid no text": (lambda: self.header(kid={"$gt": ""}), BAD),
            # What a header may not say (3.9, 3.11; RFC 7797)
            "unknown crit": (lambda: self.header(crit=["x"], x=1), BAD),
            "empty crit": (lambda: self.header(crit=[]), BAD),
            "b64 false": (lambda: self.header(b64=False, crit=["b64"]), BAD),
            "another typ": (lambda: self.header(typ="logout+jwt"), BAD),
            "nested": (lambda: self.header(cty="JWT"), BAD),
            "zip": (lambda: self.header(zip="DEF"), BAD),
            "encrypted": (
                lambda: b".".join([part({"alg": "dir", "enc": "A256GCM"}), b"", *[b"A"] * 3]),
                BAD,
            ),
            # The form
            "a header name twice": (
                lambda: part(b'{"alg":"none","alg":"HS256"}') + b"." + body + b"." + signature,
                BAD,
            ),
            "a claim twice": (
                lambda: signed(hs, json.dumps(ours).encode()[:-1] + b',"exp":99999999999}', SECRET),
                BAD,
            ),
            "exp NaN": (lambda: signed(hs, b'{"exp":NaN}', SECRET), BAD),
            "exp infinite": (lambda: signed(hs, {**ours, "exp": 1e400}, SECRET), BAD),
            "exp a text": (lambda: signed(hs, {**ours, "exp": str(now + 60)}, SECRET), BAD),
            "exp true": (lambda: signed(hs, {**ours, "exp": True}, SECRET), BAD),
            "exp negative": (lambda: signed(hs, {**ours, "exp": -1}, SECRET), BAD),
            "no exp": (
                lambda: signed(hs, {k: v for k, v in ours.items() if k != "exp"}, SECRET),
                BAD,
            ),
            "very deep": (lambda: signed(hs, b'{"a":' + b"[" * 30_000, SECRET), BAD),
            "a giant": (lambda: signed(hs, {**ours, "x": "x" * 70_000}, SECRET), BAD),
            "padding": (lambda: self.good + b"=", BAD),
            "another spelling of the signature": (lambda: self.good[:-1] + b"_", BAD),
            "NUL behind": (lambda: self.good + b"\0", BAD),
            "JSON serialization": (
                lambda: json.dumps({"payload": body.decode(), "signatures": []}).encode(),
                BAD,
            ),
            # The claims (3.8, 3.9, 3.12)
            "another type": (lambda: signed(hs, {**ours, "type": "refresh"}, SECRET), BAD),
            "no type": (lambda: signed(hs, {**ours, "type": None}, SECRET), BAD),
            "token_id no text": (lambda: signed(hs, {**ours, "token_id": 1}, SECRET), BAD),
            "database_id a list": (
                lambda: signed(hs, {**ours, "database_id": ["shop", "orders"]}, SECRET),
                BAD,
            ),
            "unknown to the store": (
                lambda: signed(hs, {**ours, "token_id": "new"}, SECRET),
                NOT_ALLOWED,
            ),
            "a known id, longer life": (
                lambda: signed(hs, {**ours, "exp": now + 9**9}, SECRET),
                NOT_ALLOWED,
            ),
            "a known id, another header": (lambda: self.header(kid="x"), NOT_ALLOWED),
            "another audience": (lambda: self.theirs(aud="other"), BAD),
            "audience missing": (lambda: self.theirs(aud=None), BAD),
            "audience a prefix": (lambda: self.theirs(aud="proxy"), BAD),
            "unknown issuer": (lambda: self.theirs(iss="https://evil.example"), BAD),
            "issuer almost right": (lambda: self.theirs(iss=ISSUER + "/"), BAD),
            "issuer missing": (lambda: self.theirs(iss=None), BAD),
            "issuer a list": (lambda: self.theirs(iss=[ISSUER]), BAD),
            "our claims, an issuer's key": (lambda: EC.token(ours), BAD),
            "an issuer's claims, our secret, our type missing": (
                lambda: signed(hs, nested, SECRET),
                BAD,
            ),
            "not yet": (lambda: self.theirs(nbf=now + 3600), BAD),
            "made in the future": (lambda: self.theirs(iat=now + 3600), BAD),
            "expired": (lambda: self.theirs(exp=now - 3600), NOT_ALLOWED),
            "no exp of an issuer's": (lambda: self.theirs(exp=None), BAD),
            "for another database": (lambda: self.theirs(database_id="orders"), NOT_ALLOWED),
            "for a registered database of the same look": (
                lambda: self.theirs(database_id=1),
                NOT_ALLOWED,
            ),
            "database missing": (lambda: self.theirs(database_id=None), BAD),
            "jti of a megabyte": (lambda: self.theirs(jti="x" * 300), BAD),
        }

    async def test_every_attack(self) -> None:
        """None is let in, and each is told what it should be."""
        self.assertEqual(await self.refused(self.good), "let in")
        self.assertEqual(await self.refused(self.theirs()), "let in")
        self.assertEqual(await self.refused(self.theirs(RSA)), "let in")
        told = {}
        attacks = self.attacks()
        for name, (token, expected) in attacks.items():
            answer = await self.refused(token())
            if answer != expected:
                told[name] = f"{answer}, not {expected}"
        self.assertEqual(told, {})
        self.assertGreaterEqual(len(attacks), 25)
        # And those that were good are good still.
        self.assertEqual(await self.refused(self.good), "let in")
        self.assertEqual(await self.refused(self.theirs()), "let in")

    async def test_other_places(self) -> None:
        """A good token opens its own database, for its own names."""
        self.assertEqual(await self.refused(self.good, place="orders"), NOT_ALLOWED)
        self.assertEqual(await self.refused(self.good, place="db_1"), NOT_ALLOWED)
        self.assertEqual(await self.refused(self.good, user="postgres"), NOT_ALLOWED)
        self.assertEqual(await self.refused(self.theirs(sub="ann"), user="ann"), "let in")
        self.assertEqual(await self.refused(self.theirs(sub="ann"), user="bob"), NOT_ALLOWED)

    async def test_revoked(self) -> None:
        """Revoked is revoked: ours by its id, an issuer's by its jti, seen before or not."""
        await self.tokens.revoke(self.ours["token_id"])
        self.assertEqual(await self.refused(self.good), NOT_ALLOWED)
        await self.tokens.revoke("j1", ISSUER)
        self.assertEqual(await self.refused(self.theirs(jti="j1")), NOT_ALLOWED)
        self.assertEqual(await self.refused(self.theirs(jti="j2")), "let in")

    async def test_long(self) -> None:
        """A token of nearly 64 KiB is a token."""
        issued = await self.tokens.issue("shop", roles=[f"role{n:059}" for n in range(700)])
        self.assertTrue(60_000 < len(issued.token) < 65_535, len(issued.token))
        self.assertEqual(await self.refused(issued.token.encode()), "let in")

    async def tearDown(self) -> None:
        """Let sockets close."""
        self.tokens.issuers.stop()
        await self.publisher.stop()
        await settled()
