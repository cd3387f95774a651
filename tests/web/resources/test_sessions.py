"""Tests for L{proxyd.web.resources.sessions}."""

from __future__ import annotations

from tests.web.scene import ApiTestCase


class SessionsTests(ApiTestCase):
    """Who is here."""

    async def test_listed(self) -> None:
        """Each with who, where from, where to, and what went through."""
        (first, second) = (await self.ask("GET", "/api/sessions")).value["sessions"]
        self.assertGreaterEqual(first.pop("seconds"), 60)
        self.assertRegex(first.pop("since"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual(
            first,
            {
                "session_id": 7,
                "kind": "postgres",
                "user": "ann",
                "source": "192.0.2.7:5",
                "target": "shop",
                "state": "idle",
                "token_id": None,
                "bytes_received": 10,
                "bytes_sent": 20,
            },
        )
        self.assertEqual(second["session_id"], 9)

    async def test_chosen(self) -> None:
        """By kind, by user, and no more than asked for."""
        for query, numbers in (
            ("user=bob", [9]),
            ("kind=postgres", [7, 9]),
            ("kind=socks5", []),
            ("limit=1", [7]),
            ("user=ann&limit=5", [7]),
        ):
            rows = (await self.ask("GET", f"/api/sessions?{query}")).value["sessions"]
            self.assertEqual([row["session_id"] for row in rows], numbers, query)

    async def test_killed(self) -> None:
        """One is ended, and told as it was; the others stay."""
        heard = await self.ask("DELETE", "/api/sessions/9")
        self.assertEqual(heard.value["session"]["user"], "bob")
        self.assertEqual(self.sessions.killed, [(9, "an administrator ended it")])
        heard = await self.ask("DELETE", "/api/sessions/9")
        self.assertEqual((heard.status, heard.code), (404, "not_found"))

    async def test_no_such(self) -> None:
        """What can be no session's number is no session."""
        for number in ("0", "-1", "x", "9x", "1.0", "٩", "9" * 30, "%00"):
            heard = await self.ask("DELETE", f"/api/sessions/{number}")
            self.assertEqual(heard.status, 404, number)
        self.assertEqual(self.sessions.killed, [])
