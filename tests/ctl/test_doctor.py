"""Tests for L{proxyd.ctl.doctor}."""

from __future__ import annotations

from proxyd.ctl.main import DONE, FAILED
from proxyd.target import Finding
from tests.ctl.asked import AskedTestCase


class DoctorTests(AskedTestCase):
    """A line for each finding, and an exit code for programs."""

    async def test_good(self) -> None:
        """All is well."""
        ran = await self.ctl("doctor")
        self.assertEqual((ran.code, ran.err), (DONE, ""))
        self.assertEqual(ran.out, "ok     orders: login: the server takes it\n")

    async def test_bad(self) -> None:
        """What is wrong, and below it what helps; the exit code is 1."""
        self.findings.append(("shop", Finding("clock", False, "601 s behind", "Set it.")))
        ran = await self.ctl("doctor")
        self.assertEqual(ran.code, FAILED)
        self.assertEqual(
            ran.out.splitlines()[1:],
            ["FAILED shop: clock: 601 s behind", "       Set it."],
        )
        ran = await self.ctl("doctor", "orders", "--json")
        self.assertEqual((ran.code, ran.value["good"]), (DONE, True))
