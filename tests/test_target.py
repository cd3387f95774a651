"""Tests for L{proxyd.target}: a target as logs and errors name it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.target import Principal, Target


class TargetTests(SynchronousTestCase):
    """The text of a target can be pasted where an address is asked for."""

    def test_name_and_ipv4(self) -> None:
        """A name or an IPv4 address, and the port."""
        self.assertEqual(str(Target("db.example", 5432)), "db.example:5432")
        self.assertEqual(str(Target("192.0.2.7", 1)), "192.0.2.7:1")

    def test_ipv6(self) -> None:
        """An IPv6 address stands in brackets: its last colon is none of the port's."""
        self.assertEqual(str(Target("::1", 5432)), "[::1]:5432")
        self.assertEqual(str(Target("fe80::1%eth0", 65535)), "[fe80::1%eth0]:65535")

    def test_unix(self) -> None:
        """A UNIX socket is its path; no port is named."""
        target = Target("/run/postgresql/.s.PGSQL.5432", 5432)
        self.assertEqual(str(target), "/run/postgresql/.s.PGSQL.5432")

    def test_kinds(self) -> None:
        """Only a path is a UNIX socket."""
        kinds = {"/run/s": True, "db.example": False, "::1": False, "db/x": False, "": False}
        for host, expected in kinds.items():
            self.assertIs(Target(host, 5432).is_unix, expected, host)

    def test_dialled(self) -> None:
        """Where the address is known, the name is not looked up; it is still what is shown."""
        target = Target("db.example", 5432, "192.0.2.7")
        self.assertEqual(str(target), "db.example:5432")
        self.assertEqual(target.dialled, Target("192.0.2.7", 5432))
        self.assertEqual(Target("db.example", 5432).dialled, Target("db.example", 5432))


class ValueTests(SynchronousTestCase):
    """Targets and principals are values: equal ones are one and the same key."""

    def test_equal(self) -> None:
        """Each part counts, and nothing else."""
        self.assertEqual(len({Target("a", 1), Target("a", 1), Target("a", 2), Target("b", 1)}), 3)
        ann = Principal("ann", "192.0.2.9")
        others = {ann, Principal("ann", "192.0.2.9"), Principal("", "unix"), Principal("", "::1")}
        self.assertEqual(len(others), 3)
