"""Tests for L{proxyd.agents.allow}: what an agent dials, whatever the server says."""

from __future__ import annotations

from ipaddress import ip_address

from twisted.trial.unittest import SynchronousTestCase

from proxyd.agents.allow import AllowList
from proxyd.rules.patterns import BadPattern


class AllowListTests(SynchronousTestCase):
    """With no pattern nearly everything, with patterns nothing else."""

    def dials(self, patterns: tuple[str, ...], host: str, port: int, *addresses: str) -> list[str]:
        """The addresses that are dialled."""
        found = [ip_address(one) for one in addresses or (host,)]
        return [str(one) for one in AllowList(patterns).allowed(host, port, found)]

    def test_usual(self) -> None:
        """Anything but link-local, multicast and metadata; loopback too."""
        for host in ("10.0.0.5", "8.8.8.8", "127.0.0.1", "::1", "fd00::5"):
            self.assertEqual(self.dials((), host, 22), [host])
        for host in ("169.254.169.254", "169.254.1.1", "fe80::1", "224.0.0.1", "fd00:ec2::254"):
            self.assertEqual(self.dials((), host, 80), [], host)
        self.assertEqual(self.dials((), "metadata.google.internal", 80, "10.0.0.1"), [])
        # A name with one good and one bad address: only the good one.
        self.assertEqual(
            self.dials((), "db.example", 80, "169.254.169.254", "10.0.0.1"), ["10.0.0.1"]
        )
        self.assertEqual(self.dials((), "64:ff9b::a9fe:a9fe", 80), [])

    def test_patterns(self) -> None:
        """Names, globs, networks and ports."""
        patterns = ("db.internal:5432", "*.shop.internal", "10.1.0.0/16:22", "any.example:*")
        for host, port, address, fine in (
            ("db.internal", 5432, "192.168.1.1", True),
            ("db.internal", 5433, "192.168.1.1", False),
            ("a.shop.internal", 80, "192.168.1.1", True),
            ("shop.internal", 80, "192.168.1.1", False),
            ("10.1.2.3", 22, "10.1.2.3", True),
            ("10.1.2.3", 23, "10.1.2.3", False),
            ("ssh.example", 22, "10.1.2.3", True),
            ("ssh.example", 22, "10.2.2.3", False),
            ("any.example", 1, "10.3.2.3", True),
            ("8.8.8.8", 80, "8.8.8.8", False),
        ):
            got = self.dials(patterns, host, port, address)
            self.assertEqual(got, [address] if fine else [], (host, port))

    def test_odd(self) -> None:
        """What is no host is not dialled, and what is no pattern is refused."""
        self.assertEqual(self.dials((), "a b", 80, "10.0.0.1"), [])
        self.assertRaises(BadPattern, AllowList, ("10.0.0.*",))

    def test_told(self) -> None:
        """The line at the start says what it is."""
        self.assertIn("anything but link-local", str(AllowList()))
        self.assertEqual(str(AllowList(("a:1", "b"))), "a:1, b")
