"""Tests for L{proxyd.rules.patterns}."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.rules.patterns import BadPattern, both, contains, pattern, port_range

NAMES = st.lists(st.sampled_from(["a", "b", "*", "?", "ab"]), min_size=1, max_size=4)


class PatternTests(SynchronousTestCase):
    """What a text of a rule matches."""

    def test_networks(self) -> None:
        """CIDR blocks and addresses; host bits are masked; mapped ones are IPv4."""
        for text, network, masked in (
            ("10.0.0.0/8", "10.0.0.0/8", False),
            ("10.1.0.0/8", "10.0.0.0/8", True),
            ("10.1.2.3", "10.1.2.3/32", False),
            ("fd00::/8", "fd00::/8", False),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8", False),
        ):
            found = pattern(text)
            self.assertEqual((found.network, found.masked), (ip_network(network), masked))

    def test_ports(self) -> None:
        """A port or a range behind a host."""
        for text, network, name, ports in (
            ("10.0.0.0/8:443", "10.0.0.0/8", "", ((443, 443),)),
            ("[fd00::/8]:80-90", "fd00::/8", "", ((80, 90),)),
            ("db.internal:5432", None, "db.internal", ((5432, 5432),)),
            ("*:22", None, "*", ((22, 22),)),
        ):
            found = pattern(text)
            expected = ip_network(network) if network else None
            self.assertEqual((found.network, found.name, found.ports), (expected, name, ports))

    def test_names(self) -> None:
        """A star takes any text, dots too; case and a last dot mean nothing."""
        for text, name, taken in (
            ("*.prod.internal", "a.prod.internal", True),
            ("*.prod.internal", "a.b.prod.internal", True),
            ("*.prod.internal", "prod.internal", False),
            ("*.PROD.internal.", "x.prod.internal", True),
            ("db?.internal", "db1.internal", True),
            ("db?.internal", "db12.internal", False),
            ("a.b", "axb", False),
            ("*", "anything", True),
        ):
            self.assertEqual(pattern(text).takes_name(name), taken, (text, name))
        self.assertTrue(pattern("*").takes(ip_address("10.0.0.1")))
        self.assertFalse(pattern("*.x").takes(ip_address("10.0.0.1")))

    def test_refused(self) -> None:
        """What is no pattern says so."""
        for text in ("10.0.*", "10.0.0.0/33", "a b", "", "x:0", "x:70000", "x:2-1", "x:1-",
                     "[::1", "[::1]x", "1.2.3", "a/b", "10.0.0.1:x"):  # fmt: skip
            self.assertRaises(BadPattern, pattern, text)
        self.assertRaises(BadPattern, port_range, "-")

    @given(NAMES, NAMES, st.text("ab.", max_size=8))
    def test_cover(self, one: list[str], other: list[str], name: str) -> None:
        """Who covers another takes every name that the other takes."""
        wide, narrow = pattern("".join(["a", *one])), pattern("".join(["a", *other]))
        if wide.covers(narrow) and narrow.takes_name(name):
            self.assertTrue(wide.takes_name(name), (wide, narrow, name))

    @given(st.ip_addresses(), st.integers(0, 32), st.integers(0, 32))
    def test_cover_networks(self, address: object, one: int, other: int) -> None:
        """The same for networks: the shorter prefix covers, the longer does not."""
        wide, narrow = pattern(f"{address}/{one}"), pattern(f"{address}/{other}")
        self.assertEqual(wide.covers(narrow), one <= other)

    def test_ranges(self) -> None:
        """Ports of a rule and of its patterns both count."""
        self.assertEqual(both((), ((1, 5),)), ((1, 5),))
        self.assertEqual(both(((1, 5),), ((4, 9),)), ((4, 5),))
        self.assertFalse(contains(((1, 5),), both(((1, 2),), ((4, 9),))))
        self.assertTrue(contains((), ((1, 2),)))
        self.assertFalse(contains(((1, 2),), ()))
