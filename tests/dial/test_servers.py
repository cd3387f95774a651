"""Tests for L{proxyd.dial.servers}."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.dial.router import Router
from proxyd.dial.servers import ServerDialer
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IDialer
from proxyd.rules.patterns import pattern
from proxyd.rules.routes import DIRECT, Rule, Rules
from proxyd.target import Principal, Target

ANN = Principal("", "")


class Way:
    """Says where it would go."""

    resolves = "far"

    def __init__(self, name: str) -> None:
        self.name = name

    def endpoint_for(self, target: Target, principal: Principal) -> Any:
        return _Endpoint(f"{self.name} {target}")

    def endpoint_among(self, target: Target, addresses: object) -> Any:
        return _Endpoint(f"{self.name} {target}")

    def status(self) -> Any:
        return None


class _Endpoint:
    def __init__(self, place: str) -> None:
        self.place = place

    def connect(self, factory: object) -> Deferred[str]:
        return succeed(self.place)


class ServerDialerTests(SynchronousTestCase):
    """By which way a database server is reached."""

    def dialled(self, host: str, via: str | None, *rules: Rule, default: str = DIRECT) -> object:
        """What a connect comes to."""
        direct: Any = Way("direct")
        ways: Any = {"far": Way("far")}
        router = Router(Rules(rules, default), ways, direct, direct, Clock())
        dialer = ServerDialer(router, direct, via)
        verifyObject(IDialer, dialer)
        endpoint: Any = dialer.endpoint_for(Target(host, 5432), ANN)
        return endpoint.connect(None)

    def test_ways(self) -> None:
        """C{via} wins; else the routes; loopback and UNIX sockets are direct, unless C{via}."""
        ten = Rule((pattern("10.0.0.0/8"),), "far", number=1)
        everything = Rule((pattern("*"),), "far", number=1)
        for host, via, rules, went in (
            ("db.internal", "far", (), "far db.internal:5432"),
            ("127.0.0.1", "far", (), "far 127.0.0.1:5432"),
            ("db.internal", None, (), "direct db.internal:5432"),
            ("10.0.0.1", None, (ten,), "far 10.0.0.1:5432"),
            ("11.0.0.1", None, (ten,), "direct 11.0.0.1:5432"),
            ("127.0.0.1", None, (everything,), "direct 127.0.0.1:5432"),
            ("localhost", None, (everything,), "direct localhost:5432"),
            ("::1", None, (everything,), "direct [::1]:5432"),
            ("/run/pg", None, (everything,), "direct /run/pg"),
            ("/run/pg", "far", (), "direct /run/pg"),
        ):
            outcome: Any = self.dialled(host, via, *rules)
            self.assertEqual(self.successResultOf(outcome), went)

    def test_default(self) -> None:
        """The default is a route, too."""
        outcome: Any = self.dialled("db.internal", None, default="far")
        self.assertEqual(self.successResultOf(outcome), "far db.internal:5432")

    def test_refused(self) -> None:
        """What a route denies is denied; an upstream that is no more is named."""
        deny = Rule((pattern("10.0.0.0/8"),), None, number=1)
        for outcome, failure in (
            (self.dialled("10.0.0.1", None, deny), DialFailure.DENIED),
            (self.dialled("h", "gone"), DialFailure.BROKEN),
        ):
            failed: Any = outcome
            self.assertEqual(self.failureResultOf(failed, DialError).value.failure, failure)
