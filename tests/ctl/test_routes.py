"""Tests for L{proxyd.ctl.routes}."""

from __future__ import annotations

from proxyd.ctl.main import DONE, FAILED
from tests.ctl.asked import AskedTestCase


class RoutesTests(AskedTestCase):
    """C{routes explain}."""

    async def test_explain(self) -> None:
        """In words, and for programs."""
        ran = await self.ctl("routes", "explain", "10.0.0.1:80", "--user", "ann")
        self.assertEqual(
            (ran.code, ran.out),
            (
                DONE,
                (
                    "10.0.0.1:80 for ann: refused\n"
                    "  because: route 1 (10.0.0.0/8) denies it\n"
                    "  route: route 1 (10.0.0.0/8)\n"
                ),
            ),
        )
        ran = await self.ctl("routes", "explain", "10.0.0.1:80", "--json")
        self.assertIsNone(ran.value["way"])

    async def test_wrong(self) -> None:
        """What is no target is said."""
        ran = await self.ctl("routes", "explain", "nonsense")
        self.assertEqual(ran.code, FAILED)
        self.assertIn("target must be HOST:PORT", ran.err)
