"""Tests for L{proxyd.ssh.known_hosts}; what ssh-keygen writes is read as it reads it."""

from __future__ import annotations

import stat
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.ssh.known_hosts import HostKeyRefused, HostKeys, fingerprint, name_in_file
from tests.support.sshd import make_key, program, shared_keys


def blob(kind: str = "ssh-ed25519", number: int = 1) -> bytes:
    """A key that looks like one."""
    body = bytes([number]) * 32
    words = (kind.encode(), body)
    return b"".join(len(one).to_bytes(4, "big") + one for one in words)


def line(names: str, key: bytes, marker: str = "") -> str:
    """A line of the file."""
    kind = key[4 : 4 + int.from_bytes(key[:4], "big")].decode()
    return f"{marker} {names} {kind} {b64encode(key).decode()} a comment\n".lstrip()


ONE, OTHER, RSA = blob(), blob(number=2), blob("ssh-rsa", 3)


class KnownHostsCase(SynchronousTestCase):
    """A file, and what it says."""

    def known(self, *lines: str, learn: bool = False) -> HostKeys:
        """The file."""
        path = Path(self.mktemp())
        path.write_text("".join(lines))
        keys = HostKeys(path, learn=learn)
        keys.read()
        return keys

    def refusal(self, keys: HostKeys, host: str, port: int = 22, key: bytes = ONE) -> str:
        """Why a key is refused."""
        with self.assertRaises(HostKeyRefused) as caught:
            keys.check(host, port, key)
        return str(caught.exception)


class MatchTests(KnownHostsCase):
    """Which lines are about a server (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT")."""

    def test_names(self) -> None:
        """Names, wildcards, negation and ports."""
        for names, host, port, known in (
            ("box.example", "box.example", 22, True),
            ("box.example", "BOX.example", 22, True),
            ("a.example,box.example", "box.example", 22, True),
            ("*.example", "box.example", 22, True),
            ("*.example", "example", 22, False),
            ("10.0.?.1", "10.0.7.1", 22, True),
            ("10.0.?.1", "10.0.17.1", 22, False),
            ("*.example,!box.example", "box.example", 22, False),
            ("!box.example,*.example", "other.example", 22, True),
            ("[box.example]:2222", "box.example", 2222, True),
            ("[box.example]:2222", "box.example", 22, False),
            ("box.example", "box.example", 2222, True),  # as OpenSSH does it
            ("[*.example]:2222", "box.example", 2222, True),
            ("box.example.", "box.example", 22, False),
            ("boxXexample", "box.example", 22, False),
            ("[::1]:2222", "::1", 2222, True),
            ("i-0123", "i-0123", 22, True),
        ):
            keys = self.known(line(names, ONE))
            if known:
                self.assertFalse(keys.check(host, port, ONE), names)
            else:
                self.assertIn("is not in", self.refusal(keys, host, port), names)

    def test_hashed_by_openssh(self) -> None:
        """Names that ssh-keygen -H has hashed."""
        path = Path(self.mktemp())
        path.write_text(line("box.example", ONE) + line("[box.example]:2222", OTHER))
        # ssh-keygen wants keys that are whole: give it real ones.
        real = " ".join((shared_keys() / "host_ed25519.pub").read_text().split()[:2])
        path.write_text(f"box.example {real}\n[other.example]:2222 {real}\n")
        command = [program("ssh-keygen"), "-q", "-H", "-f", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        self.assertNotIn("example", path.read_text())
        keys = HostKeys(path, learn=False)
        keys.read()
        self.assertEqual(keys.types("box.example", 22), [b"ssh-ed25519"])
        self.assertEqual(keys.types("other.example", 2222), [b"ssh-ed25519"])
        self.assertEqual(keys.types("third.example", 22), [])

    def test_lines_that_are_none(self) -> None:
        """Comments, halves, other protocols and noise are passed over."""
        keys = self.known(
            "# box.example\n",
            "\n",
            "box.example ssh-ed25519\n",
            "box.example ssh-ed25519 %%%\n",
            "box.example ssh-rsa " + b64encode(ONE).decode() + "\n",
            "@other box.example ssh-ed25519 " + b64encode(ONE).decode() + "\n",
            "|1|x|y ssh-ed25519 " + b64encode(ONE).decode() + "\n",
            line("box.example", OTHER),
        )
        self.assertFalse(keys.check("box.example", 22, OTHER))
        self.assertEqual(keys.types("box.example", 22), [b"ssh-ed25519"])

    def test_no_file(self) -> None:
        """A file that is not there knows nobody; one that can't be read is an error."""
        keys = HostKeys(Path(self.mktemp()), learn=False)
        keys.read()
        self.assertIn("is not in", self.refusal(keys, "box.example"))
        folder = Path(self.mktemp())
        folder.mkdir()
        with self.assertRaises(OSError):
            HostKeys(folder, learn=False).read()


class JudgeTests(KnownHostsCase):
    """What becomes of a key that is shown."""

    def test_changed(self) -> None:
        """Another key than the known one: both are named, and where the known one stands."""
        for learn in (False, True):
            keys = self.known("# first line\n", line("box.example", OTHER), learn=learn)
            why = self.refusal(keys, "box.example")
            self.assertIn(f"{keys.path}:2", why)
            for word in (fingerprint(ONE), fingerprint(OTHER), "remove that line"):
                self.assertIn(word, why)

    def test_another_type(self) -> None:
        """A key of a type that is not known counts as changed, too, even at first sight."""
        keys = self.known(line("box.example", RSA), learn=True)
        self.assertIn("ssh-rsa", self.refusal(keys, "box.example"))

    def test_learnt_by_another(self) -> None:
        """What another upstream has learnt into the same file counts at once, and stands once."""
        first = self.known(learn=True)
        second = HostKeys(first.path, learn=True)
        second.read()
        self.assertTrue(first.check("box.example", 22, ONE))
        self.assertIn("not the one that is known", self.refusal(second, "box.example", key=OTHER))
        self.assertFalse(second.check("box.example", 22, ONE))
        third = HostKeys(first.path, learn=True)
        self.assertFalse(third.check("box.example", 22, ONE))
        self.assertEqual(len(first.path.read_text().splitlines()), 1)

    def test_several_keys(self) -> None:
        """A server may have several."""
        keys = self.known(line("box.example", RSA), line("box.example", ONE))
        self.assertFalse(keys.check("box.example", 22, ONE))
        self.assertFalse(keys.check("box.example", 22, RSA))

    def test_revoked(self) -> None:
        """A revoked key is refused whatever else stands there, under every port."""
        for learn in (False, True):
            keys = self.known(line("box.example", ONE), line("*", ONE, "@revoked"), learn=learn)
            self.assertIn("revoked by", self.refusal(keys, "box.example"))
            self.assertIn("revoked by", self.refusal(keys, "box.example", 2222))
            self.assertIn("revoked by", self.refusal(keys, "new.example"))

    def test_certificate_authority(self) -> None:
        """Who is known by an authority only is refused with the reason."""
        keys = self.known(line("*.example", OTHER, "@cert-authority"), learn=True)
        why = self.refusal(keys, "box.example")
        self.assertIn("host certificates can't be checked", why)
        self.assertIn(fingerprint(ONE), why)

    def test_learnt(self) -> None:
        """At first sight it is written down, for us alone to read; from then on it is the one."""
        keys = HostKeys(Path(self.mktemp()) / "below" / "hosts", learn=True)
        keys.read()
        self.assertTrue(keys.check("box.example", 2222, ONE))
        self.assertFalse(keys.check("box.example", 2222, ONE))
        self.assertEqual(stat.S_IMODE(keys.path.stat().st_mode), 0o600)
        self.assertIn("not the one", self.refusal(keys, "box.example", 2222, OTHER))
        self.assertTrue(keys.check("other.example", 22, OTHER))
        again = HostKeys(keys.path, learn=False)
        again.read()
        self.assertFalse(again.check("other.example", 22, OTHER))

    def test_not_learnt(self) -> None:
        """Without leave to learn, an unknown server is refused, with its fingerprint."""
        why = self.refusal(self.known(), "box.example")
        self.assertIn(fingerprint(ONE), why)


class WordsTests(SynchronousTestCase):
    """Names and fingerprints as OpenSSH writes them."""

    def test_fingerprint(self) -> None:
        """The same as ssh-keygen -l."""
        key = make_key(Path(self.mktemp()))
        public = key.with_name(f"{key.name}.pub")
        command = [program("ssh-keygen"), "-l", "-f", str(public)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.assertEqual(fingerprint(b64decode(public.read_text().split()[1])), told.split()[1])

    def test_name(self) -> None:
        """Only a port that is not 22 is named."""
        self.assertEqual(name_in_file("Box.example", 22), "box.example")
        self.assertEqual(name_in_file("box.example", 2222), "[box.example]:2222")
