"""Tests for L{proxyd.rules.routes}."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.rules.hosts import host_of
from proxyd.rules.patterns import pattern
from proxyd.rules.routes import DIRECT, Decision, Rule, Rules

OWN = ip_address("10.9.9.9")


def rule(match: str, way: str | None, number: int = 1, **more: object) -> Rule:
    """A rule with these patterns, in words."""
    return Rule(tuple(map(pattern, match.split())), way, number=number, **more)  # type: ignore[arg-type]


def rules(*lines: Rule, default: str | None = DIRECT) -> Rules:
    """Rules on a machine with one address of its own."""
    return Rules(lines, default, [OWN])


class DecideTests(SynchronousTestCase):
    """Which way a target goes."""

    def way(
        self, given_rules: Rules, host: str, *addresses: str, port: int = 80, user: str = "ann"
    ) -> str | None:
        """The way of a host which has these addresses here."""
        found = [ip_address(one) for one in addresses]
        return given_rules.decide(host_of(host), port, user, found).way

    def test_first_match(self) -> None:
        """The first rule that matches decides, then the default."""
        table = rules(rule("10.1.0.0/16", "a"), rule("10.0.0.0/8", "b"), rule("*.x", "c"))
        for host, way in (
            ("10.1.2.3", "a"),
            ("10.2.2.3", "b"),
            ("::ffff:10.2.2.3", "b"),
            ("h.x", "c"),
            ("11.0.0.1", DIRECT),
            ("h.y", DIRECT),
        ):
            self.assertEqual(self.way(table, host), way, host)

    def test_deny(self) -> None:
        """A rule, or the default, says no, and says which."""
        table = rules(rule("10.0.0.0/8", None, 7), rule("*.ok", "a"), default=None)
        self.assertEqual(self.way(table, "10.0.0.1"), None)
        self.assertEqual(self.way(table, "x.ok"), "a")
        self.assertEqual(self.way(table, "11.0.0.1"), None)
        said = table.decide(host_of("10.0.0.1"), 1, "")
        self.assertEqual(said.why, "route 7 (10.0.0.0/8) denies it")
        self.assertEqual(said.rule, table.rules[0])

    def test_denied_in_every_wrapping(self) -> None:
        """What is denied is denied as a NAT64, 6to4 or mapped address, too."""
        table = rules(rule("10.0.0.0/8", None))
        for host in ("64:ff9b::10.0.0.1", "2002:a00:1::", "::ffff:10.0.0.1"):
            self.assertEqual(self.way(table, host), None, host)

    def test_ports_and_users(self) -> None:
        """A rule may be for some ports and some users only."""
        table = rules(
            rule("*", "a", ports=((80, 80), (8000, 8100))),
            rule("*:22", "b", users=("ann", "ops-*")),
        )
        for port, user, way in (
            (80, "", "a"),
            (8050, "", "a"),
            (81, "", DIRECT),
            (22, "ann", "b"),
            (22, "ops-1", "b"),
            (22, "bob", DIRECT),
        ):
            self.assertEqual(self.way(table, "h", port=port, user=user), way, (port, user))

    def test_names_by_address(self) -> None:
        """A CIDR rule sees a name by its addresses here; no answer is no match."""
        table = rules(rule("10.0.0.0/8", "a"), rule("*.x", "b"))
        self.assertEqual(self.way(table, "h.x", "10.0.0.1"), "a")
        self.assertEqual(self.way(table, "h.x", "8.8.8.8", "::ffff:10.0.0.1"), "a")
        self.assertEqual(self.way(table, "h.x"), "b")

    def test_by_address(self) -> None:
        """A look-up is asked for only where it can matter."""
        name_first = rules(rule("*.x", "b"), rule("10.0.0.0/8", "a"))
        self.assertFalse(name_first.by_address(host_of("h.x"), 80, ""))
        self.assertTrue(name_first.by_address(host_of("h.y"), 80, ""))
        self.assertFalse(name_first.by_address(host_of("10.0.0.1"), 80, ""))
        self.assertFalse(rules(rule("*.x", "b")).by_address(host_of("h.y"), 80, ""))
        for_others = rules(rule("10.0.0.0/8", "a", users=("bob",)))
        self.assertFalse(for_others.by_address(host_of("h"), 80, "ann"))

    def test_delicate(self) -> None:
        """Loopback, this machine, link-local and metadata need a route that names them."""
        wide = rules(rule("0.0.0.0/0 ::/0", "a"), rule("*", "b"))
        for host in ("127.0.0.1", "127.1", "::1", str(OWN), "169.254.169.254", "fe80::1",
                     "localhost", "a.localhost", "metadata.google.internal"):  # fmt: skip
            self.assertEqual(self.way(wide, host), None, host)
            self.assertEqual(self.way(rules(), host), None, host)
        narrow = rules(
            rule("127.0.0.1 ::1 169.254.0.0/16", DIRECT), rule(f"localhost *.localhost {OWN}", "a")
        )
        for host, way in (
            ("127.0.0.1", DIRECT),
            ("127.0.0.2", None),
            ("169.254.169.254", DIRECT),
            ("localhost", "a"),
            ("b.localhost", "a"),
            (str(OWN), "a"),
        ):
            self.assertEqual(self.way(narrow, host), way, host)
        self.assertIn("loopback, which no route names", wide.decide(host_of("::1"), 1, "").why)

    def test_localhost_by_address(self) -> None:
        """A route that names loopback's addresses names what stands for them."""
        table = rules(rule("127.0.0.0/8", "a"))
        self.assertEqual(self.way(table, "localhost", "127.0.0.1"), "a")
        self.assertEqual(self.way(table, "localhost"), None)
        wide = rules(rule("0.0.0.0/0", "a"))
        self.assertEqual(self.way(wide, "localhost", "127.0.0.1"), None)

    def test_own_wide(self) -> None:
        """A wide private route reaches its range, but not this machine in it."""
        table = rules(rule("10.0.0.0/8", "a"))
        self.assertEqual(self.way(table, "10.9.9.8"), "a")
        self.assertEqual(self.way(table, str(OWN)), None)


class PinTests(SynchronousTestCase):
    """Which of a name's addresses may be dialled."""

    def pinned(self, table: Rules, host: str, *addresses: str) -> list[str]:
        """The addresses that go the way that was decided, and why the others don't."""
        name, found = host_of(host), [ip_address(one) for one in addresses]
        decision = table.decide(name, 80, "", found)
        dialled, self.why = table.pinned(decision, name, 80, "", found)
        return [str(one) for one in dialled]

    def test_rebinding(self) -> None:
        """A name that stands for loopback, or for what is denied, is not dialled there."""
        table = rules(rule("10.0.0.0/8", "a"))
        self.assertEqual(self.pinned(table, "h", "8.8.8.8", "127.0.0.1", "::1"), ["8.8.8.8"])
        self.assertEqual(self.pinned(table, "h", "127.0.0.1"), [])
        self.assertIn("127.0.0.1 is loopback", self.why)

    def test_each_by_itself(self) -> None:
        """An address which would go another way is left out."""
        table = rules(rule("10.0.0.0/8", "a"))
        self.assertEqual(self.pinned(table, "h", "10.0.0.1", "8.8.8.8"), ["10.0.0.1"])

    def test_localhost(self) -> None:
        """A route that names localhost means its addresses, too."""
        table = rules(rule("localhost", DIRECT))
        self.assertEqual(self.pinned(table, "localhost", "127.0.0.1"), ["127.0.0.1"])

    @given(
        st.lists(st.ip_addresses(v=4), max_size=5),
        st.integers(0, 32),
        st.ip_addresses(v=4),
        st.booleans(),
    )
    def test_never_past_a_denial(
        self, addresses: list[IPv4Address], bits: int, base: IPv4Address, allow: bool
    ) -> None:
        """No address is dialled that would be refused when asked for itself."""
        table = rules(rule(f"{base}/{bits}", None), default=DIRECT if allow else None)
        name = host_of("h")
        decision = table.decide(name, 80, "", addresses)
        for address in table.pinned(decision, name, 80, "", addresses)[0]:
            asked = table.decide(host_of(str(address)), 80, "")
            self.assertEqual(asked.way, decision.way)


class CoverTests(SynchronousTestCase):
    """A rule that can never match."""

    def test_covers(self) -> None:
        """An earlier one takes all of it."""
        for earlier, later, covered in (
            (rule("10.0.0.0/8", "a"), rule("10.1.0.0/16", "b"), True),
            (rule("10.1.0.0/16", "a"), rule("10.0.0.0/8", "b"), False),
            (rule("*", "a"), rule("x 10.0.0.1", "b"), True),
            (rule("*.x", "a"), rule("*.y.x", "b"), True),
            (rule("*.x", "a"), rule("*.y.x z", "b"), False),
            (rule("*", "a", users=("ann",)), rule("x", "b"), False),
            (rule("*", "a"), rule("x", "b", users=("ann",)), True),
            (rule("*:80", "a"), rule("x", "b"), False),
            (rule("*:80", "a"), rule("x", "b", ports=((80, 80),)), True),
        ):
            self.assertEqual(earlier.covers(later), covered, (earlier, later))

    def test_decision_is_a_value(self) -> None:
        """Two decisions that say the same are the same."""
        self.assertEqual(Decision("a", None, "x"), Decision("a", None, "x"))
