"""Tests for L{proxyd.web.resources.doctor}."""

from __future__ import annotations

from proxyd.target import Finding
from tests.web.scene import ApiTestCase


class DoctorTests(ApiTestCase):
    """What is found, and whether it is good."""

    async def test_good(self) -> None:
        """With or without a body."""
        for body in (None, {}, {"connection": "orders"}):
            heard = await self.ask("POST", "/api/doctor", body)
            self.assertEqual(heard.status, 200)
            self.assertTrue(heard.value["good"])
            (row,) = heard.value["findings"]
            self.assertEqual((row["connection"], row["check"]), ("orders", "login"))

    async def test_bad(self) -> None:
        """One thing wrong is enough; what could not be looked at is not wrong."""
        self.findings.append(("shop", Finding("rds_iam", None, "it is no RDS")))
        self.assertTrue((await self.ask("POST", "/api/doctor")).value["good"])
        self.findings.append(("shop", Finding("clock", False, "601 s behind", "Set it.")))
        report = (await self.ask("POST", "/api/doctor")).value
        self.assertFalse(report["good"])
        self.assertEqual(report["findings"][-1]["remedy"], "Set it.")
        report = (await self.ask("POST", "/api/doctor", {"connection": "orders"})).value
        self.assertEqual((report["good"], len(report["findings"])), (True, 1))
