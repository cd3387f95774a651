"""Tests for L{proxyd.postgres.hosts}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.postgres.hosts import IS_READ_ONLY, IS_STANDBY, Hosts, judged, question, unsuited
from proxyd.target import Target

A, B, C = (Target(name, 5432) for name in "abc")
SECONDS = 30.0


class OrderTests(SynchronousTestCase):
    """In which order hosts are tried."""

    def setUp(self) -> None:
        self.clock = Clock()

    def hosts(self, attributes: str = "any") -> Hosts:
        """Three of them, in their order."""
        return Hosts([A, B, C], attributes, self.clock, SECONDS, None)

    def test_as_given(self) -> None:
        """As the DSN has them."""
        hosts = self.hosts()
        self.assertEqual(hosts.order(), [A, B, C])
        self.assertEqual(len(hosts), 3)

    def test_failed_is_last(self) -> None:
        """One that failed lately is tried last, but tried; later it has its place again."""
        hosts = self.hosts()
        hosts.failed(A)
        self.assertEqual(hosts.order(), [B, C, A])
        self.clock.advance(SECONDS - 1)
        hosts.failed(B)
        self.assertEqual(hosts.order(), [C, A, B])
        self.clock.advance(1)
        self.assertEqual(hosts.order(), [A, C, B])

    def test_recovered(self) -> None:
        """A login that succeeded there gives it its place back."""
        hosts = self.hosts()
        hosts.failed(A)
        hosts.succeeded(A)
        hosts.succeeded(B)
        self.assertEqual(hosts.order(), [A, B, C])

    def test_shuffled(self) -> None:
        """load_balance_hosts: another order each time; what failed is last all the same."""
        hosts = Hosts([A, B, C], "any", self.clock, SECONDS, lambda them: them.reverse())
        self.assertEqual(hosts.order(), [C, B, A])
        hosts.failed(C)
        self.assertEqual(hosts.order(), [B, A, C])

    def test_passes(self) -> None:
        """prefer-standby looks for a standby among all of them before it takes any."""
        self.assertEqual(self.hosts("prefer-standby").wanted, ("standby", "any"))
        self.assertEqual(self.hosts("read-write").wanted, ("read-write",))


class AttributeTests(SynchronousTestCase):
    """target_session_attrs, by what a server tells (14 and newer) or is asked (older)."""

    def test_told(self) -> None:
        """The table of libpq's documentation."""
        for standby, read_only, fitting in (
            ("off", "off", {"any", "read-write", "primary"}),
            ("off", "on", {"any", "read-only", "primary"}),
            ("on", "off", {"any", "read-only", "standby"}),
            ("on", "on", {"any", "read-only", "standby"}),
        ):
            told = {"in_hot_standby": standby, "default_transaction_read_only": read_only}
            for wanted in ("any", "read-write", "read-only", "primary", "standby"):
                why = unsuited(wanted, told)
                self.assertEqual(not why, wanted in fitting, (told, wanted))

    def test_not_told(self) -> None:
        """An older server must be asked, but where anything will do."""
        for wanted in ("read-write", "read-only", "primary", "standby"):
            self.assertIsNone(unsuited(wanted, {"server_version": "13.1"}))
        self.assertIsNone(unsuited("read-write", {"in_hot_standby": "off"}))
        self.assertEqual(unsuited("any", {}), "")

    def test_asked(self) -> None:
        """What the answers mean."""
        for wanted, text, good, bad in (
            ("read-write", IS_READ_ONLY, "off", "on"),
            ("read-only", IS_READ_ONLY, "on", "off"),
            ("primary", IS_STANDBY, "f", "t"),
            ("standby", IS_STANDBY, "t", "f"),
        ):
            self.assertEqual(question(wanted), text)
            self.assertEqual(judged(wanted, good), "")
            self.assertIn("is ", judged(wanted, bad))
