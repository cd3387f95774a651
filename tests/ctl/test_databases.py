"""Tests for L{proxyd.ctl.databases}."""

from __future__ import annotations

from proxyd.ctl.main import DONE, FAILED
from tests.ctl.asked import AskedTestCase

DSN = "postgresql://svc@192.0.2.1:5433/shop"


class DatabasesTests(AskedTestCase):
    """Add, list, remove."""

    async def test_life(self) -> None:
        """Each command, for people."""
        self.assertEqual((await self.ctl("databases", "list")).out, "no database is registered\n")
        ran = await self.ctl("databases", "add", "shop", DSN)
        self.assertEqual((ran.code, ran.err), (DONE, ""))
        self.assertIn("database 1: clients ask for db_1", ran.out)
        ran = await self.ctl("databases", "list")
        self.assertIn("db_1", ran.out)
        self.assertIn(DSN, ran.out)
        ran = await self.ctl("databases", "remove", "1")
        self.assertEqual(ran.out, "database 1 is removed, and its tokens with it\n")
        ran = await self.ctl("databases", "remove", "1")
        self.assertEqual((ran.code, ran.out, len(ran.err.splitlines())), (FAILED, "", 1))

    async def test_json(self) -> None:
        """And for programs."""
        added = (await self.ctl("databases", "add", "shop", DSN, "--json")).value
        self.assertEqual(added["connection"], "db_1")
        self.assertEqual(
            (await self.ctl("databases", "list", "--json")).value, {"databases": [added]}
        )
        removed = (await self.ctl("databases", "remove", "1", "--json")).value
        self.assertEqual(removed, {"database_id": 1})

    async def test_password(self) -> None:
        """From a variable or stdin; what can't be read is one line."""
        self.variable("SHOP_PASSWORD", "hunter2")
        for number, given in enumerate(("env:SHOP_PASSWORD", "-")):
            ran = await self.ctl(
                "databases", "add", f"shop{number}", DSN, "--password", given, stdin="hunter2\n"
            )
            self.assertEqual((ran.code, ran.err), (DONE, ""))
            self.assertNotIn("hunter2", ran.out)
        ran = await self.ctl("databases", "add", "x", DSN, "--password", "env:NOT_SET_AT_ALL")
        self.assertEqual(ran.code, FAILED)
        self.assertIn("variable NOT_SET_AT_ALL is not set", ran.err)
        ran = await self.ctl("databases", "add", "x", DSN, "--password", "-")
        self.assertEqual(ran.err, "proxyctl: password: must not be empty\n")

    async def test_refused(self) -> None:
        """proxyd's reason, in one line."""
        ran = await self.ctl("databases", "add", "shop", "postgresql://svc@/d?host=/tmp")
        self.assertEqual((ran.code, ran.out), (FAILED, ""))
        self.assertTrue(ran.err.startswith("proxyctl: dsn: "), ran.err)
        self.assertEqual(len(ran.err.splitlines()), 1)
