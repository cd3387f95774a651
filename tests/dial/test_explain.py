"""Tests for L{proxyd.dial.explain}."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.dial.direct import DirectDialer
from proxyd.dial.explain import Explanation, explain
from proxyd.dial.router import Router
from proxyd.rules.routes import DIRECT, Rule, Rules
from proxyd.target import Target
from tests.dial.test_router import FakeResolver, rule


class FarWay:
    """An upstream that is down."""

    resolves = "far"

    def endpoint_for(self, target: object, principal: object) -> Any:
        return None

    def status(self) -> Any:
        class Status:
            state, in_use, last_error = "down", None, "host key changed"

        return Status()


class ExplainTests(SynchronousTestCase):
    """What is said of a target."""

    def said(self, host: str, *rules: Rule, user: str = "", default: str = DIRECT) -> Explanation:
        """The explanation."""
        resolver: Any = FakeResolver({"ten": ["10.0.0.1"], "both": ["127.0.0.1", "8.8.8.8"]})
        direct = DirectDialer(MemoryReactorClock(), resolver, 5.0)  # type: ignore[arg-type]
        ways: Any = {"far": FarWay()}
        router = Router(Rules(rules, default), ways, direct, resolver, Clock())
        return self.successResultOf(explain(router, Target(host, 80), user))

    def test_direct(self) -> None:
        """By the default, with the addresses that would be dialled."""
        found = self.said("both")
        self.assertEqual((found.way, found.addresses), (DIRECT, ("127.0.0.1", "8.8.8.8")))
        self.assertEqual((found.dialled, found.route), (("8.8.8.8",), ""))
        self.assertEqual(found.lines()[0], "both:80: direct")
        self.assertIn("  because: no route matches: the default", found.lines())

    def test_far(self) -> None:
        """By an upstream: how that is, and who looks the name up."""
        found = self.said("db.x", rule("*.x", "far", 3), user="ann")
        self.assertEqual((found.way, found.route), ("far", "route 3 (*.x)"))
        self.assertEqual(
            found.why,
            "route 3 (*.x) matches; the name goes to the far side unresolved, and is looked up "
            "there; far is down (host key changed)",
        )
        self.assertEqual(found.lines()[0], "db.x:80 for ann: far")

    def test_refused(self) -> None:
        """By a rule, by our own caution, or since it is nothing."""
        for host, route, why in (
            ("ten", "route 1 (10.0.0.0/8)", "route 1 (10.0.0.0/8) denies it"),
            ("::1", "", "::1 is loopback, which no route names"),
            ("a b", "", "a b is not a host name"),
            ("unknown", "", "unknown"),
        ):
            found = self.said(host, rule("10.0.0.0/8", None))
            self.assertEqual((found.way, found.route), (None, route), host)
            self.assertIn(why, found.why)
            self.assertIn("refused", found.lines()[0])
