"""Tests for L{proxyd.rules.hosts}."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.rules.hosts import (
    BadHost,
    Host,
    delicate,
    delicate_name,
    embedded,
    host_of,
    plain,
)


class HostTests(SynchronousTestCase):
    """One form for all the ways to write a host."""

    def test_addresses(self) -> None:
        """Whatever the system would take for an address is one."""
        for text, address in (
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]", "::1"),
            ("::FFFF:10.0.0.1", "10.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("0X7F.1", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
        ):
            self.assertEqual(host_of(text), Host("", ip_address(address)), text)

    def test_names(self) -> None:
        """Names are in lower case, in ASCII, without a dot behind."""
        for text, name in (
            ("Example.COM.", "example.com"),
            ("a_b-c.d", "a_b-c.d"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("\uff4cocalhost", "localhost"),
        ):
            self.assertEqual(host_of(text), Host(name), text)

    def test_refused(self) -> None:
        """What is neither is refused; a path is no host, whatever UNIX sockets there are."""
        for text in ("", ".", "a..b", "/run/x.sock", "a b", "a\0b", "*", "1.2.3.4.5", "x.256.257",
                     "a" * 64, "a@b", "a/b", "x\n", "[x]"):  # fmt: skip
            self.assertRaises(BadHost, host_of, text)

    @given(st.text(max_size=40))
    def test_once_is_enough(self, text: str) -> None:
        """The form is its own form; noise raises nothing but BadHost."""
        try:
            host = host_of(text)
        except BadHost:
            return
        self.assertEqual(host_of(str(host)), host)
        self.assertTrue(str(host).isascii())

    @given(st.ip_addresses(v=4))
    def test_mapped(self, address: IPv4Address) -> None:
        """A mapped address is what it maps, and wrapped ones are seen through."""
        self.assertEqual(plain(ip_address(f"::ffff:{address}")), address)
        self.assertEqual(embedded(ip_address(f"64:ff9b::{address}")), address)
        number = int(address)
        sixtofour = ip_address(f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1")
        self.assertEqual(embedded(sixtofour), address)


class DelicateTests(SynchronousTestCase):
    """What no rule may reach by being wide."""

    def test_addresses(self) -> None:
        """Loopback, link-local and metadata, in every wrapping."""
        for text, kind in (
            ("127.0.0.1", "loopback"),
            ("127.200.1.1", "loopback"),
            ("::1", "loopback"),
            ("64:ff9b::7f00:1", "loopback"),
            ("2002:7f00:1::", "loopback"),
            ("::7f00:1", "loopback"),
            ("0.0.0.0", "this host (RFC 1122)"),
            ("::", "this host"),
            ("169.254.169.254", "a cloud metadata address"),
            ("fd00:ec2::254", "a cloud metadata address"),
            ("169.254.1.1", "link-local"),
            ("fe80::1", "link-local"),
            ("224.0.0.1", "multicast"),
            ("10.0.0.1", ""),
            ("192.168.0.1", ""),
            ("8.8.8.8", ""),
            ("fd00::1", ""),
        ):
            self.assertEqual(delicate(ip_address(text)), kind, text)

    def test_names(self) -> None:
        """Names that mean loopback or metadata wherever they are looked up."""
        for name in ("localhost", "a.localhost", "metadata.google.internal", "x.localdomain"):
            self.assertTrue(delicate_name(name), name)
        for name in ("localhost.example", "mylocalhost", "metadata.example"):
            self.assertFalse(delicate_name(name), name)
