"""Tests for L{proxyd.dial.router}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.config.times import NAME_GLANCE
from proxyd.dial.direct import DirectDialer
from proxyd.dial.router import MOST_KNOWN, Router
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IRouter, Passage
from proxyd.net.own_addresses import FRESH
from proxyd.net.resolver import Address
from proxyd.rules.patterns import pattern
from proxyd.rules.routes import DIRECT, Rule, Rules
from proxyd.target import Principal, Target

ANN = Principal("ann", "192.0.2.9")


class FakeResolver:
    """Knows some names; of others it hears nothing, until it is told so."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        self.names = names
        self.asked: list[str] = []
        self.cancelled: list[str] = []

    def resolve(self, host: str, port: int) -> Deferred[list[Address]]:
        """The addresses of a name."""
        self.asked.append(host)
        if host == "silent":
            return Deferred(lambda _: self.cancelled.append(host))
        if host not in self.names:
            return fail(DialError(DialFailure.NAME, host))
        kinds = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in self.names[host]]
        return succeed(
            [Address(kind, one, port) for kind, one in zip(kinds, self.names[host], strict=True)]
        )


class FakeWay:
    """An upstream that only says where it would go."""

    def __init__(self, resolves: str = "far") -> None:
        self.resolves = resolves
        self.outcomes: dict[str, DialError] = {}
        self.dialled: list[str] = []

    def endpoint_for(self, target: Target, principal: Principal) -> Any:
        return _Endpoint(self, str(target))

    def status(self) -> Any:
        class Status:
            in_use = "i-1"

        return Status()


class _Endpoint:
    def __init__(self, way: FakeWay, place: str) -> None:
        self._way = way
        self.place = place

    def connect(self, factory: object) -> Deferred[str]:
        self._way.dialled.append(self.place)
        error = self._way.outcomes.get(self.place)
        return succeed(self.place) if error is None else fail(error)


def rule(match: str, way: str | None, number: int = 1) -> Rule:
    """A rule in words."""
    return Rule(tuple(map(pattern, match.split())), way, number=number)


class RouterTests(SynchronousTestCase):
    """What is found for a target."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.far, self.near = FakeWay(), FakeWay("local")
        self.resolver = FakeResolver(
            {
                "ten": ["10.0.0.1"],
                "mixed": ["127.0.0.1", "10.0.0.1", "8.8.8.8"],
                "rebound": ["127.0.0.1"],
                "out": ["8.8.8.8", "2001:db8::1"],
            }
        )

    def router(self, *rules: Rule, default: str | None = DIRECT) -> Router:
        """A router with two ways beside the direct one."""
        resolver: Any = self.resolver
        ways: Any = {"far": self.far, "near": self.near}
        direct = DirectDialer(MemoryReactorClock(), resolver, 30.0)  # type: ignore[arg-type]
        return Router(Rules(rules, default), ways, direct, resolver, self.clock)

    def found(self, router: Router, host: str, port: int = 80) -> Passage:
        """The passage of a target."""
        return self.successResultOf(router.find(Target(host, port), ANN))

    def test_denied_by_its_text(self) -> None:
        """What a target's text alone says against it; a route that names it allows it."""
        router = self.router()
        for host in ("127.0.0.1", "127.1", "::1", "localhost", "169.254.169.254", "a b"):
            self.assertTrue(router.denies(Target(host, 5432)), host)
        for host in ("10.0.0.1", "db.example"):
            self.assertIsNone(router.denies(Target(host, 5432)), host)
        allowing = self.router(rule("127.0.0.1", DIRECT))
        self.assertIsNone(allowing.denies(Target("127.0.0.1", 5432)))
        self.assertTrue(self.router(default=None).denies(Target("10.0.0.1", 5432)))

    def refused(self, router: Router, host: str, port: int = 80) -> DialFailure:
        """Why there is none."""
        failure = self.failureResultOf(router.find(Target(host, port), ANN), DialError)
        error: DialError = failure.value
        return error.failure

    def test_promise(self) -> None:
        """It is what listeners are promised."""
        verifyObject(IRouter, self.router())

    def test_direct_address(self) -> None:
        """An address goes as it is; nothing is looked up."""
        found = self.found(self.router(), "8.8.8.8")
        self.assertEqual((found.way, found.addresses, found.rule), (DIRECT, ("8.8.8.8",), None))
        self.assertEqual((self.resolver.asked, found.instance()), ([], ""))

    def test_known(self) -> None:
        """What was found for an address is known at once the next time, to the same user."""
        router = self.router(rule("10.0.0.0/8", DIRECT))
        target = Target("10.0.0.1", 80)
        self.assertIsNone(router.known(target, ANN))
        found = self.found(router, "10.0.0.1")
        self.assertIs(router.known(target, ANN), found)
        self.assertIs(router.known(target, Principal("ann", "192.0.2.10")), found)
        for other, who in (
            (Target("10.0.0.1", 81), ANN),
            (Target("10.0.0.2", 80), ANN),
            (target, Principal("bob", ANN.source)),
        ):
            self.assertIsNone(router.known(other, who))

    def test_known_until_reload(self) -> None:
        """Other routes, or other addresses of this machine: it is judged anew."""
        router = self.router()
        target = Target("8.8.8.8", 80)
        self.found(router, "8.8.8.8")
        router.rules = Rules((rule("8.0.0.0/8", None),), DIRECT)
        self.assertIsNone(router.known(target, ANN))
        self.assertEqual(self.refused(router, "8.8.8.8"), DialFailure.DENIED)
        self.assertIsNone(router.known(target, ANN))
        router.rules = Rules((), DIRECT)
        found = self.found(router, "8.8.8.8")
        self.assertIs(router.known(target, ANN), found)
        self.clock.advance(FRESH)
        self.assertIsNone(router.known(target, ANN))
        self.assertIsNot(self.found(router, "8.8.8.8"), found)

    def test_not_known(self) -> None:
        """A name may stand for something else next time; another way may be gone."""
        router = self.router(rule("10.0.0.0/8", "far"), rule("9.0.0.0/8", None))
        for host in ("out", "10.0.0.1"):
            self.found(router, host)
            self.assertIsNone(router.known(Target(host, 80), ANN), host)
        self.refused(router, "9.0.0.1")
        self.assertIsNone(router.known(Target("9.0.0.1", 80), ANN))

    def test_known_are_few(self) -> None:
        """A client that asks for the whole internet does not fill our memory."""
        router = self.router()
        for port in range(1, MOST_KNOWN + 2):
            self.found(router, "8.8.8.8", port)
        self.assertIsNone(router.known(Target("8.8.8.8", 1), ANN))
        self.assertIsNotNone(router.known(Target("8.8.8.8", MOST_KNOWN + 1), ANN))

    def test_direct_name(self) -> None:
        """A name is looked up once, and what was judged is what is dialled."""
        found = self.found(self.router(rule("10.0.0.0/8", None)), "out")
        self.assertEqual(found.addresses, ("8.8.8.8", "2001:db8::1"))
        self.assertEqual(self.resolver.asked, ["out"])

    def test_rebinding(self) -> None:
        """A name that turns out to be loopback, or what is denied, is refused."""
        router = self.router()
        self.assertEqual(self.found(router, "mixed").addresses, ("10.0.0.1", "8.8.8.8"))
        self.assertEqual(self.refused(router, "rebound"), DialFailure.DENIED)
        self.assertEqual(self.refused(router, "127.1"), DialFailure.DENIED)
        self.assertEqual(self.refused(router, "2130706433"), DialFailure.DENIED)
        denying = self.router(rule("10.0.0.0/8", None))
        self.assertEqual(self.refused(denying, "mixed"), DialFailure.DENIED)

    def test_far(self) -> None:
        """A name goes unresolved; CIDR rules have seen it by its addresses here."""
        router = self.router(rule("10.0.0.0/8", "far"))
        found = self.found(router, "TEN.")
        self.assertEqual((found.way, found.addresses, found.instance()), ("far", (), "i-1"))
        self.assertEqual(str(found.target), "ten:80")
        by_name = self.router(rule("*.x", "far"))
        self.resolver.asked.clear()
        self.found(by_name, "h.x")
        self.assertEqual(self.resolver.asked, [])

    def test_no_answer_is_no_match(self) -> None:
        """Unknown here, it may be known to the far side; and nobody waits for ever."""
        router = self.router(rule("10.0.0.0/8", None), default="far")
        self.assertEqual(self.found(router, "unknown").way, "far")
        finding = router.find(Target("silent", 80), ANN)
        self.assertNoResult(finding)
        self.clock.advance(NAME_GLANCE)
        self.assertEqual(self.successResultOf(finding).way, "far")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_local(self) -> None:
        """C{resolve: local} pins, and an address that does not answer is followed by the next."""
        router = self.router(rule("*", "near"))
        found = self.found(router, "mixed")
        self.assertEqual(found.addresses, ("10.0.0.1", "8.8.8.8"))
        self.near.outcomes["10.0.0.1:80"] = DialError(DialFailure.REFUSED, "x")
        connecting: Any = found.endpoint.connect(None)  # type: ignore[arg-type]
        self.assertEqual(self.successResultOf(connecting), "8.8.8.8:80")
        self.near.outcomes["10.0.0.1:80"] = DialError(DialFailure.BROKEN, "x")
        self.near.dialled.clear()
        self.failureResultOf(found.endpoint.connect(None), DialError)  # type: ignore[arg-type]
        self.assertEqual(self.near.dialled, ["10.0.0.1:80"])

    def test_refusals(self) -> None:
        """What is no target, and what has no way."""
        for host, port, failure in (
            ("/run/x", 80, DialFailure.NAME),
            ("a b", 80, DialFailure.NAME),
            ("8.8.8.8", 0, DialFailure.REFUSED),
            ("nowhere", 80, DialFailure.NAME),
            ("169.254.169.254", 80, DialFailure.DENIED),
        ):
            self.assertEqual(self.refused(self.router(), host, port), failure, host)
        self.assertEqual(self.refused(self.router(rule("x", "gone")), "x"), DialFailure.BROKEN)
        self.assertEqual(self.refused(self.router(default=None), "8.8.8.8"), DialFailure.DENIED)

    def test_cancel(self) -> None:
        """Cancelled, the look-up is, too."""
        finding = self.router().find(Target("silent", 80), ANN)
        finding.addErrback(lambda _: None)
        finding.cancel()
        self.assertEqual(self.resolver.cancelled, ["silent"])

    def test_endpoint(self) -> None:
        """As a dialer, it goes the way that it finds, when it is asked to."""
        endpoint = self.router(default="far").endpoint_for(Target("h", 1), ANN)
        self.assertEqual(self.far.dialled, [])
        connecting: Any = endpoint.connect(None)  # type: ignore[arg-type]
        self.assertEqual(self.successResultOf(connecting), "h:1")

    def test_goes_direct(self) -> None:
        """Whether anything does, for a user."""
        self.assertTrue(self.router().goes_direct("ann"))
        self.assertFalse(self.router(rule("x", "far"), default="far").goes_direct("ann"))
        some = Rule((pattern("x"),), DIRECT, users=("ann",))
        self.assertTrue(self.router(some, default=None).goes_direct("ann"))
        self.assertFalse(self.router(some, default=None).goes_direct("bob"))
        self.assertEqual(self.router(some).pac_rules().rules, (some,))
