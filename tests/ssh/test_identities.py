"""Tests for L{proxyd.ssh.identities}: keys as ssh-keygen makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.ssh.identities import Algorithm, IdentityError, algorithms_for, read_key
from tests.support.sshd import make_key, program


def blob(kind: bytes) -> bytes:
    """The start of a public key."""
    return len(kind).to_bytes(4, "big") + kind


class ReadTests(SynchronousTestCase):
    """Key files."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def refusal(self, path: Path, passphrase: str | None = None) -> str:
        """Why a file is refused."""
        with self.assertRaises(IdentityError) as caught:
            read_key(path, passphrase)
        return str(caught.exception)

    def test_kinds(self) -> None:
        """Every kind, in both forms of file, plain and encrypted."""
        for number, words in enumerate(
            (
                ("-t", "ed25519"),
                ("-t", "ecdsa"),
                ("-t", "ecdsa", "-b", "384"),
                ("-t", "rsa", "-b", "2048"),
                ("-t", "rsa", "-b", "2048", "-m", "PEM"),
                ("-t", "ecdsa", "-m", "PEM"),
            )
        ):
            for passphrase in (None, "open sesame"):
                path = self.folder / f"key{number}{passphrase is None}"
                make_key(path, *words, passphrase=passphrase or "")
                (identity,) = read_key(path, passphrase)
                self.assertFalse(identity.ask_first)
                way = algorithms_for(identity.blob, ())[0]
                signature = self.successResultOf(identity.sign(b"data", way.signature))
                self.assertIn(way.signature, signature)

    def test_passphrase(self) -> None:
        """A missing and a wrong one are told apart; one too many does no harm."""
        closed = make_key(self.folder / "closed", passphrase="open sesame")
        self.assertIn("no passphrase", self.refusal(closed))
        why = self.refusal(closed, "abracadabra")
        self.assertIn("wrong passphrase", why)
        self.assertNotIn("abracadabra", why)
        opened = make_key(self.folder / "opened")
        self.assertEqual(len(read_key(opened, "open sesame")), 1)

    def test_no_key(self) -> None:
        """What is no private key is said to be none."""
        self.assertIn("no such file", self.refusal(self.folder / "absent"))
        noise = self.folder / "noise"
        noise.write_text("no key\n")
        self.assertIn("not a private key", self.refusal(noise))
        self.assertIn("not a private key", self.refusal(noise, "secret"))
        make_key(self.folder / "key")
        self.assertIn("public key", self.refusal(self.folder / "key.pub"))

    def test_certificate_beside(self) -> None:
        """A certificate of the key is shown first, then the key itself."""
        authority, key = make_key(self.folder / "ca"), make_key(self.folder / "key")
        command = [program("ssh-keygen"), "-q", "-s", str(authority), "-I", "ann", "-n", "ann"]
        subprocess.run([*command, str(key.with_name("key.pub"))], check=True, capture_output=True)
        first, second = read_key(key, None)
        self.assertIn(b"-cert-v01@openssh.com", first.blob)
        self.assertNotIn(b"-cert-v01@openssh.com", second.blob)
        self.assertTrue(first.name.endswith("-cert.pub"))


class AlgorithmTests(SynchronousTestCase):
    """How a key may be used (RFC 8332)."""

    def test_rsa(self) -> None:
        """SHA-2, the better first, as far as the server takes it; never SHA-1."""
        both = [Algorithm(name, name) for name in (b"rsa-sha2-512", b"rsa-sha2-256")]
        self.assertEqual(algorithms_for(blob(b"ssh-rsa"), ()), both)
        taken = (b"ssh-rsa", b"rsa-sha2-256")
        self.assertEqual(algorithms_for(blob(b"ssh-rsa"), taken), both[1:])
        self.assertEqual(algorithms_for(blob(b"ssh-rsa"), (b"ssh-rsa",)), [])

    def test_others(self) -> None:
        """The others have one way each."""
        for kind in (b"ssh-ed25519", b"ecdsa-sha2-nistp256"):
            self.assertEqual(algorithms_for(blob(kind), (kind,)), [Algorithm(kind, kind)])
            self.assertEqual(algorithms_for(blob(kind), (b"ssh-rsa",)), [])

    def test_certificates(self) -> None:
        """A certificate is called by its own name, its signature by the key's."""
        tail = b"-cert-v01@openssh.com"
        self.assertEqual(
            algorithms_for(blob(b"ssh-rsa" + tail), (b"rsa-sha2-256",)),
            [Algorithm(b"rsa-sha2-256" + tail, b"rsa-sha2-256")],
        )
        self.assertEqual(
            algorithms_for(blob(b"ssh-ed25519" + tail), ()),
            [Algorithm(b"ssh-ed25519" + tail, b"ssh-ed25519")],
        )
