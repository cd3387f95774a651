"""Tests for L{proxyd.ssh.algorithms}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.ssh import algorithms
from proxyd.ssh.algorithms import CIPHERS, HOST_KEYS, KEY_EXCHANGES, MACS, known_first, mismatch


def kexinit(**changed: bytes) -> bytes:
    """A server's KEXINIT, without its type byte."""
    lists = {
        "kex": b"curve25519-sha256",
        "keys": b"ssh-ed25519",
        "out": b"aes128-ctr",
        "into": b"aes128-ctr",
        "mac_out": b"hmac-sha2-256",
        "mac_in": b"hmac-sha2-256",
        "zip_out": b"none,zlib@openssh.com",
        "zip_in": b"none",
    } | changed
    words = [*lists.values(), b"", b""]
    return bytes(16) + b"".join(len(one).to_bytes(4, "big") + one for one in words) + bytes(5)


class MismatchTests(SynchronousTestCase):
    """Where nothing is common, both lists are named."""

    def test_good(self) -> None:
        """One of each is enough."""
        self.assertEqual(mismatch(kexinit(), HOST_KEYS), "")

    def test_both_lists_are_named(self) -> None:
        """Whoever reads it knows what to change, at either end."""
        for words, what, theirs, ours in (
            ({"kex": b"diffie-hellman-group1-sha1"}, "key exchange", "group1", KEY_EXCHANGES),
            ({"keys": b"ssh-dss"}, "host key algorithm", "ssh-dss", HOST_KEYS),
            ({"out": b"3des-cbc"}, "cipher", "3des-cbc", CIPHERS),
            ({"into": b"arcfour,aes128-cbc"}, "cipher", "arcfour, aes128-cbc", CIPHERS),
            ({"mac_in": b"hmac-md5"}, "MAC", "hmac-md5", MACS),
            ({"zip_out": b"zlib"}, "compression", "zlib", (b"none",)),
        ):
            problem = mismatch(kexinit(**words), HOST_KEYS)
            self.assertIn(f"no common {what}", problem)
            self.assertIn(theirs, problem)
            self.assertIn(ours[-1].decode(), problem)

    def test_no_mac_beside_gcm(self) -> None:
        """A cipher with a MAC of its own needs no other, in its direction."""
        gcm = b"aes128-gcm@openssh.com"
        odd = {"mac_out": b"odd", "mac_in": b"odd"}
        self.assertEqual(mismatch(kexinit(out=gcm, into=gcm, **odd), HOST_KEYS), "")
        self.assertIn("MAC", mismatch(kexinit(out=gcm, **odd), HOST_KEYS))

    def test_nothing_weak(self) -> None:
        """What others have broken is not even offered."""
        spoken = b" ".join(KEY_EXCHANGES + HOST_KEYS + CIPHERS + MACS)
        for word in (b"sha1", b"md5", b"cbc", b"3des", b"dss", b"arcfour", b"none"):
            self.assertNotIn(word, spoken)


class OrderTests(SynchronousTestCase):
    """A server is asked for the key by which it is known."""

    def test_known_first(self) -> None:
        """The known types come first, each by all its algorithms; the others stay."""
        order = known_first([b"ssh-rsa"])
        self.assertEqual(order[:2], [b"rsa-sha2-512", b"rsa-sha2-256"])
        self.assertEqual(set(order), set(HOST_KEYS))
        self.assertEqual(known_first([]), list(HOST_KEYS))

    def test_names(self) -> None:
        """RSA keys have one type and several algorithms; GCM has its own MAC."""
        self.assertEqual(algorithms.host_key_type(b"rsa-sha2-512"), b"ssh-rsa")
        self.assertEqual(algorithms.host_key_type(b"ssh-ed25519"), b"ssh-ed25519")
        self.assertEqual([algorithms.has_own_mac(one) for one in CIPHERS], [True] * 2 + [False] * 3)
        self.assertEqual(algorithms.lists_of(kexinit())[6], [b"none", b"zlib@openssh.com"])
