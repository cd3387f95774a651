"""Tests for L{proxyd.net.own_addresses}."""

from __future__ import annotations

from ipaddress import ip_address

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.own_addresses import FRESH, OwnAddresses, read_addresses


class OwnTests(SynchronousTestCase):
    """What the kernel says."""

    def test_loopback(self) -> None:
        """Every machine has this one."""
        found = read_addresses()
        self.assertIn(ip_address("127.0.0.1"), found)
        self.assertNotIn(ip_address("192.0.2.1"), found)

    def test_fresh(self) -> None:
        """The answer is used for a while, then asked for anew."""
        clock = Clock()
        own = OwnAddresses(clock)
        first = own.now()
        clock.advance(FRESH - 1)
        self.assertIs(own.now(), first)
        clock.advance(1)
        self.assertEqual(own.now(), first)
        self.assertIsNot(own.now(), first)
