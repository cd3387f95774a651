"""Tests for L{proxyd.ctl.tokens}."""

from __future__ import annotations

from proxyd.ctl.main import DONE, FAILED
from tests.ctl.asked import AskedTestCase


class TokensTests(AskedTestCase):
    """Issue, list, revoke."""

    async def test_life(self) -> None:
        """The first line of what is issued is to be pasted; the token is shown this once."""
        self.assertEqual((await self.ctl("tokens", "list")).out, "no token is known\n")
        ran = await self.ctl("tokens", "issue", "orders", "--ttl", "30d", "--label", "ann")
        self.assertEqual((ran.code, ran.err), (DONE, ""))
        url = ran.out.splitlines()[0]
        self.assertTrue(url.startswith("postgresql://token:"), url)
        token = url.split(":")[2].split("@")[0]
        token_id = (await self.tokens.check(token.encode())).token_id
        ran = await self.ctl("tokens", "list")
        self.assertIn(token_id, ran.out)
        self.assertNotIn(token, ran.out)
        ran = await self.ctl("tokens", "revoke", token_id)
        self.assertEqual(ran.out, f"token {token_id} is revoked\n")
        (row,) = (await self.ctl("tokens", "list", "--json")).value["tokens"]
        self.assertIsNotNone(row["revoked_at"])
        ran = await self.ctl("tokens", "revoke", "x/y?z")
        self.assertEqual((ran.code, ran.out), (FAILED, ""))

    async def test_json(self) -> None:
        """For programs."""
        made = (await self.ctl("tokens", "issue", "orders", "--role", "ann", "--json")).value
        grant = await self.tokens.check(made["token"].encode())
        self.assertEqual(grant.roles, ("ann",))
        ran = await self.ctl("tokens", "list", "--database", "orders", "--json")
        self.assertEqual(len(ran.value["tokens"]), 1)

    async def test_registered_database(self) -> None:
        """A number is a registered database's id."""
        await self.ctl("databases", "add", "shop", "postgresql://svc@192.0.2.1/shop")
        made = (await self.ctl("tokens", "issue", "1", "--json")).value
        self.assertEqual(made["database_id"], 1)

    async def test_refused(self) -> None:
        """An unknown database and an odd duration, each in one line."""
        for arguments in (("elsewhere",), ("orders", "--ttl", "soon")):
            ran = await self.ctl("tokens", "issue", *arguments)
            self.assertEqual((ran.code, ran.out, len(ran.err.splitlines())), (FAILED, "", 1))
