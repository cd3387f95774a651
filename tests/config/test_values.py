"""Tests for L{proxyd.config.values}."""

from __future__ import annotations

import os
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config import values
from proxyd.config.model import Listener
from proxyd.config.values import BadValue


class DurationTests(SynchronousTestCase):
    """Durations are numbers with units."""

    def test_units(self) -> None:
        """Each unit of the reference is what it says, in seconds."""
        for text, seconds in (
            ("500ms", 0.5),
            ("30s", 30.0),
            ("1.5s", 1.5),
            ("14m", 840.0),
            ("1h", 3600.0),
            ("1h30m", 5400.0),
            ("730d", 730 * 86400.0),
            ("0s", 0.0),
        ):
            self.assertEqual(values.duration(text), seconds, text)

    def test_refused(self) -> None:
        """What has no unit, an unknown one, a sign or too much of it is refused."""
        for text in ("", "30", "s", "30 s", "-1s", "1y", "1s2", "99999999999d", "1e3s", "٣s"):
            self.assertRaises(BadValue, values.duration, text)

    def test_unit_is_asked_for(self) -> None:
        """A bare number is told that it has no unit."""
        self.assertIn("30 has no unit", str(self.assertRaises(BadValue, values.duration, "30")))


class SizeTests(SynchronousTestCase):
    """Sizes are numbers with units, of ten or of two."""

    def test_units(self) -> None:
        """64KiB are 65,536 bytes, 10MB are ten million."""
        for text, count in (("512B", 512), ("64KiB", 65536), ("10MB", 10**7), ("1 GiB", 2**30)):
            self.assertEqual(values.size(text), count, text)

    def test_refused(self) -> None:
        """What has no unit or an unknown one is refused."""
        for text in ("", "64", "64kib", "-1B", "1.5MB", "MB"):
            self.assertRaises(BadValue, values.size, text)


class NetworkTests(SynchronousTestCase):
    """Networks are addresses or CIDR blocks."""

    def test_read(self) -> None:
        """A block is itself, an address is a block of one, host bits are masked and told."""
        self.assertEqual(values.network("10.0.0.0/8"), (ip_network("10.0.0.0/8"), False))
        self.assertEqual(values.network("10.1.2.3"), (ip_network("10.1.2.3/32"), False))
        self.assertEqual(values.network("10.1.2.3/8"), (ip_network("10.0.0.0/8"), True))
        self.assertEqual(values.network("fd00::1/8"), (ip_network("fd00::/8"), True))

    def test_refused(self) -> None:
        """Names, wrong addresses and wrong lengths are refused."""
        for text in ("", "db.internal", "10.0.0", "10.0.0.0/33", "*", "10.0.0.0/8/8"):
            self.assertRaises(BadValue, values.network, text)


class ListenerTests(SynchronousTestCase):
    """The five ways to name a listener."""

    def listener(self, text: str) -> Listener:
        """A listener, in a home that the test knows."""
        return values.listener(text, {"HOME": "/home/ann"})

    def test_addresses(self) -> None:
        """HOST:PORT and [::1]:PORT; port 0 is any free one."""
        for text, host, port in (
            ("127.0.0.1:6432", "127.0.0.1", 6432),
            ("[::1]:6432", "::1", 6432),
            ("db.example:0", "db.example", 0),
            ("0.0.0.0:65535", "0.0.0.0", 65535),
        ):
            self.assertEqual(self.listener(text), Listener(text, "tcp", host=host, port=port))

    def test_sockets(self) -> None:
        """unix:PATH with its home put in, systemd:NAME."""
        self.assertEqual(self.listener("unix:/run/pg").path, "/run/pg")
        self.assertEqual(self.listener("unix:~/pg").path, "/home/ann/pg")
        self.assertEqual(self.listener("unix:pg").path, os.path.abspath("pg"))
        self.assertEqual(self.listener("systemd:pg"), Listener("systemd:pg", "systemd", name="pg"))

    def test_endpoints(self) -> None:
        """What only Twisted understands is left to it."""
        for text in (
            "tcp:6432",
            "tcp6:6432:interface=\\:\\:1",
            "unix:/run/pg:mode=660",
            "systemd:domain=INET:index=0",
            "onion:80:hiddenServiceDir=/x",
        ):
            self.assertEqual(self.listener(text), Listener(text, "endpoint"))

    def test_refused(self) -> None:
        """What would bind every interface unsaid, or nothing, is refused with what to say."""
        for text, hint in (
            ("6432", "write 127.0.0.1:6432"),
            (":6432", "0.0.0.0:6432 for every interface"),
            ("*:6432", "0.0.0.0:6432 for every interface"),
            ("localhost", "names no port"),
            ("::1:6432", "in brackets"),
            ("[::1]", "[IPV6-ADDRESS]:PORT"),
            ("[localhost]:1", "[IPV6-ADDRESS]:PORT"),
            ("localhost:http", "not a port"),
            ("localhost:65536", "not a port"),
            ("300.0.0.1:1", "not an IP address"),
            ("a b:1", "not a host name"),
            ("tcp:", "ends after its first word"),
            ("unix:/" + "x" * 200, "at most 107 bytes"),
        ):
            self.assertIn(hint, str(self.assertRaises(BadValue, self.listener, text)))

    def test_local(self) -> None:
        """Only loopback and UNIX sockets are known to be reached from this machine alone."""
        local = ("127.0.0.1:1", "127.8.8.8:1", "localhost:1", "[::1]:1", "unix:/x")
        far = ("0.0.0.0:1", "[::]:1", "db.example:1", "systemd:pg", "tcp:1")
        for text in (*local, *far):
            self.assertEqual(values.is_local(self.listener(text)), text in local, text)

    @given(st.text(max_size=40))
    def test_noise(self, text: str) -> None:
        """Whatever the text, it is a listener or a BadValue."""
        try:
            self.listener(text)
        except BadValue:
            pass


class PathTests(SynchronousTestCase):
    """A path's C{~} is a home."""

    def test_home(self) -> None:
        """HOME of the environment given, not of this process."""
        self.assertEqual(values.expanded("~/x", {"HOME": "/h/"}), "/h/x")
        self.assertEqual(values.expanded("~", {"HOME": "/h"}), "/h")
        self.assertEqual(values.expanded("a~/x", {"HOME": "/h"}), "a~/x")

    def test_no_home(self) -> None:
        """A user who does not exist has none; an empty path is none."""
        self.assertRaises(BadValue, values.expanded, "~no-such-user-here/x", {})
        self.assertRaises(BadValue, values.expanded, "", {})


class TextTests(SynchronousTestCase):
    """Words, and texts as errors show them."""

    def test_words(self) -> None:
        """One of the words is itself; another is told what may have been meant."""
        self.assertEqual(values.one_of("a", ("a", "b")), "a")
        error = self.assertRaises(BadValue, values.one_of, "requre", ("disable", "require"))
        self.assertIn("did you mean require?", str(error))

    def test_shown(self) -> None:
        """One printable line of bounded length."""
        self.assertEqual(values.shown("a\n\x1b[31m"), "a??[31m")
        self.assertEqual(values.shown("x" * 100), "x" * 60 + "…")

    def test_sound(self) -> None:
        """A NUL or half of a surrogate pair can't be sent."""
        self.assertEqual(values.sound("é"), "é")
        self.assertRaises(BadValue, values.sound, "a\0")
        self.assertRaises(BadValue, values.sound, "\ud800")
