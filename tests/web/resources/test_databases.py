"""Tests for L{proxyd.web.resources.databases}."""

from __future__ import annotations

from typing import Any

from tests.web.scene import ApiTestCase

DSN = "postgresql://svc@192.0.2.1:5433/shop?sslmode=require"


class DatabasesTests(ApiTestCase):
    """Registered, listed, removed."""

    async def register(self, **changes: Any) -> Any:
        """Register a good one, with these changes."""
        body = {"name": "shop", "dsn": DSN, "password": "hunter2", **changes}
        return await self.ask("POST", "/api/databases", body)

    async def test_registered(self) -> None:
        """It has an id and the name that clients ask for; its password is told to nobody."""
        heard = await self.register()
        self.assertEqual(heard.status, 201)
        value = heard.value
        self.assertEqual(value["connection"], f"db_{value['database_id']}")
        self.assertEqual(value["name"], "shop")
        listed = await self.ask("GET", "/api/databases")
        self.assertEqual(listed.value, {"databases": [value]})
        for one in (heard, listed):
            self.assertNotIn(b"hunter2", one.body)

    async def test_password_in_the_dsn(self) -> None:
        """A password in the DSN is not told either."""
        heard = await self.register(dsn="postgresql://svc:hunter2@192.0.2.1/shop", password="")
        self.assertEqual(heard.status, 422, "an empty password is no password")
        body = {"name": "shop", "dsn": "postgresql://svc:hunter2@192.0.2.1/shop"}
        heard = await self.ask("POST", "/api/databases", body)
        self.assertEqual(heard.status, 201)
        self.assertNotIn(b"hunter2", heard.body)

    async def test_taken(self) -> None:
        """A name is there once."""
        await self.register()
        heard = await self.register()
        self.assertEqual((heard.status, heard.code), (409, "conflict"))

    async def test_refused(self) -> None:
        """A DSN that says what it may not is told so, without its password."""
        for dsn in (
            "nonsense",
            "postgresql://svc:hunter2@192.0.2.1/",
            "postgresql://svc:hunter2@/shop?host=/run/postgresql",
            "postgresql://svc:hunter2@192.0.2.1/shop?sslkey=/etc/shadow&sslcert=/etc/passwd",
        ):
            heard = await self.ask("POST", "/api/databases", {"name": "x", "dsn": dsn})
            self.assertEqual((heard.status, heard.code), (422, "invalid"), dsn)
            self.assertNotIn(b"hunter2", heard.body)
        self.assertEqual((await self.ask("GET", "/api/databases")).value, {"databases": []})

    async def test_removed(self) -> None:
        """It is gone with its tokens, and gone twice is not found."""
        database_id = (await self.register()).value["database_id"]
        issued = await self.ask("POST", "/api/tokens", {"database_id": database_id})
        self.assertEqual(issued.status, 201)
        heard = await self.ask("DELETE", f"/api/databases/{database_id}")
        self.assertEqual((heard.status, heard.value), (200, {"database_id": database_id}))
        self.assertEqual((await self.ask("GET", "/api/tokens")).value, {"tokens": []})
        heard = await self.ask("DELETE", f"/api/databases/{database_id}")
        self.assertEqual((heard.status, heard.code), (404, "not_found"))
