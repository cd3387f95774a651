"""Tests for L{proxyd.ctl.sessions}."""

from __future__ import annotations

from proxyd.ctl.main import DONE, FAILED
from tests.ctl.asked import AskedTestCase


class SessionsTests(AskedTestCase):
    """List and kill."""

    async def test_list(self) -> None:
        """Who is here; for programs, as the API has it."""
        ran = await self.ctl("sessions", "list")
        self.assertIn("ann", ran.out)
        self.assertIn("192.0.2.7:5", ran.out)
        ran = await self.ctl("sessions", "list", "--user", "bob", "--json")
        self.assertEqual([row["session_id"] for row in ran.value["sessions"]], [9])
        ran = await self.ctl("sessions", "list", "--kind", "socks5")
        self.assertEqual(ran.out, "nobody is here\n")

    async def test_hostile_name(self) -> None:
        """A user's name does nothing to the terminal of who looks at it."""
        self.sessions.users[11] = "\x1b]0;owned\x07\nroot"
        ran = await self.ctl("sessions", "list")
        self.assertNotIn("\x1b", ran.out)
        self.assertNotIn("\nroot", ran.out)

    async def test_kill(self) -> None:
        """Several at once; those that are gone are told, and the others end all the same."""
        ran = await self.ctl("sessions", "kill", "7", "8", "9")
        self.assertEqual(ran.code, FAILED)
        self.assertEqual(ran.err, "proxyctl: there is no session 8: it may be over\n")
        self.assertEqual([number for number, _ in self.sessions.killed], [7, 9])
        self.sessions.users[12] = "eve"
        ran = await self.ctl("sessions", "kill", "12")
        self.assertEqual((ran.code, ran.out), (DONE, "session 12 of eve on shop is ended\n"))
