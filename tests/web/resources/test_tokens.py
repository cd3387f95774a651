"""Tests for L{proxyd.web.resources.tokens}."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import jwt
from twisted.internet import reactor

from proxyd.config.token_settings import Issuer, TokenSettings
from proxyd.records import Refusal, TokenRefused
from tests.web.scene import JWT_SECRET, ApiTestCase, Heard


class TokensTests(ApiTestCase):
    """Issued, registered, listed, revoked."""

    async def issue(self, **body: Any) -> Heard:
        """Issue a token for the connection C{orders}, or what is said."""
        return await self.ask("POST", "/api/tokens", {"database_id": "orders", **body})

    async def test_issued(self) -> None:
        """The token is shown once, in a string to paste, and opens what was asked for."""
        heard = await self.issue(label="ann", ttl="30d", roles=["ann"])
        self.assertEqual(heard.status, 201)
        value = heard.value
        self.assertIn(f"token:{value['token']}@", value["connection_string"])
        self.assertTrue(value["connection_string"].endswith("/orders"))
        grant = await self.tokens.check(value["token"].encode())
        self.assertEqual((grant.token_id, grant.roles), (value["token_id"], ("ann",)))
        listed = await self.ask("GET", "/api/tokens")
        self.assertNotIn(value["token"].encode(), listed.body)
        (row,) = listed.value["tokens"]
        self.assertEqual(row["token_id"], value["token_id"])
        self.assertEqual((row["label"], row["revoked_at"]), ("ann", None))
        self.assertEqual(row["expires_at"], value["expires_at"])

    async def test_ttl(self) -> None:
        """Seconds, or a duration; 730 days where nothing is said."""
        for ttl, seconds in ((60, 60), ("1h", 3600), (None, 730 * 86400)):
            heard = await self.issue(**({} if ttl is None else {"ttl": ttl}))
            claims = jwt.decode(heard.value["token"], JWT_SECRET, ["HS256"])
            self.assertEqual(claims["exp"] - claims["iat"], seconds)
        for ttl in (0, -1, "x", "0s", "5", "200y", 10**14, True, 1.5, [], ""):
            heard = await self.issue(ttl=ttl)
            self.assertEqual((heard.status, heard.code), (422, "invalid"), ttl)

    async def test_databases(self) -> None:
        """A registered database by its number or its client's name; others are unknown."""
        body = {"name": "shop", "dsn": "postgresql://svc@192.0.2.1/shop"}
        number = (await self.ask("POST", "/api/databases", body)).value["database_id"]
        for database_id in (number, f"db_{number}"):
            heard = await self.issue(database_id=database_id)
            self.assertEqual(heard.value["database_id"], number)
        for database_id in ("elsewhere", number + 1, f"db_{number + 1}"):
            heard = await self.issue(database_id=database_id)
            self.assertEqual((heard.status, heard.code), (404, "not_found"), database_id)
        for query in (f"database_id={number}", f"database_id=db_{number}"):
            rows = (await self.ask("GET", f"/api/tokens?{query}")).value["tokens"]
            self.assertEqual([row["database_id"] for row in rows], [number, number])

    async def test_registered(self) -> None:
        """A token made elsewhere with our secret is good once it is registered."""
        claims = {
            "database_id": "orders",
            "token_id": "elsewhere-1",
            "type": "database_access",
            "exp": int(reactor.seconds()) + 600,
        }
        token = jwt.encode(claims, JWT_SECRET, "HS256")
        heard = await self.ask("POST", "/api/tokens", {"token": token, "label": "old"})
        self.assertEqual(heard.status, 201)
        self.assertEqual(set(heard.value), {"token_id", "database_id", "expires_at"})
        self.assertEqual((await self.tokens.check(token.encode())).token_id, "elsewhere-1")
        heard = await self.ask("POST", "/api/tokens", {"token": token})
        self.assertEqual(heard.status, 409)

    async def test_registering_refused(self) -> None:
        """Not with another secret, not expired, not with words that contradict it."""
        claims = {"database_id": "orders", "token_id": "x", "type": "database_access", "exp": 5}
        for body in (
            {"token": jwt.encode(claims, b"another secret of 32 bytes......", "HS256")},
            {"token": jwt.encode(claims, JWT_SECRET, "HS256")},
            {"token": "hunter2"},
            {"token": "x" * 70_000},
            {"token": "x", "database_id": "orders"},
            {"label": "nothing else"},
            {},
        ):
            heard = await self.ask("POST", "/api/tokens", body)
            self.assertEqual((heard.status, heard.code), (422, "invalid"), list(body))
            self.assertNotIn(b"hunter2", heard.body)

    async def test_large_token(self) -> None:
        """A token of nearly 64 KB is looked at, not refused for its size."""
        claims = {
            "database_id": "orders",
            "token_id": "large",
            "type": "database_access",
            "exp": int(reactor.seconds()) + 600,
            "roles": ["u" * 40] * 1000,
        }
        token = jwt.encode(claims, JWT_SECRET, "HS256")
        self.assertGreater(len(token), 55_000)
        heard = await self.ask("POST", "/api/tokens", {"token": token})
        self.assertEqual(heard.status, 201, heard.body)

    async def test_revoked(self) -> None:
        """It is good no more, stays in the list as revoked, and twice is once."""
        token_id = (await self.issue()).value["token_id"]
        heard = await self.ask("DELETE", f"/api/tokens/{token_id}")
        self.assertEqual(heard.status, 200)
        self.assertIsNotNone(heard.value["revoked_at"])
        rows = (await self.ask("GET", "/api/tokens")).value["tokens"]
        self.assertEqual(rows, [heard.value])
        self.assertEqual((await self.ask("DELETE", f"/api/tokens/{token_id}")).status, 200)
        heard = await self.ask("DELETE", "/api/tokens/unknown")
        self.assertEqual((heard.status, heard.code), (404, "not_found"))

    async def test_issuers_token(self) -> None:
        """An issuer's token is revoked by its id, though nobody has seen it yet."""
        path = "/api/tokens/their-id?issuer=https%3A%2F%2Fid.example"
        issuer = Issuer("https://id.example", ("proxyd",), "https://id.example/keys")
        self.tokens.settings = TokenSettings(issuers=(issuer,))
        self.assertEqual((await self.ask("DELETE", f"{path}%2F")).status, 404)
        heard = await self.ask("DELETE", path)
        self.assertEqual(heard.status, 200)
        self.assertEqual(heard.value["issuer"], "https://id.example")

    async def test_any_id(self) -> None:
        """Whatever id somebody else gave a token: if it lets in, it can be revoked."""
        for token_id in ("team/ann", "/", "//x", "a//b/", "x?y#z", "%2F", "..", "ä b", "tokens/.."):
            claims = {
                "database_id": "orders",
                "token_id": token_id,
                "type": "database_access",
                "exp": int(reactor.seconds()) + 600,
            }
            token = jwt.encode(claims, JWT_SECRET, "HS256")
            heard = await self.ask("POST", "/api/tokens", {"token": token})
            self.assertEqual(heard.status, 201, token_id)
            heard = await self.ask("DELETE", f"/api/tokens/{quote(token_id, safe='')}")
            self.assertEqual((heard.status, heard.value.get("token_id")), (200, token_id))
            refused = await self.assertFailure(self.tokens.check(token.encode()), TokenRefused)
            self.assertIs(refused.refusal, Refusal.REVOKED)
