"""Tests for L{proxyd.net.pem}."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import StartError
from proxyd.net.pem import load_certificates, load_key, load_revocation_lists
from tests.net.authority import made, put, revocation_list


class PemTests(SynchronousTestCase):
    """PEM files are read as operators have them, and refused in a line that names them."""

    def setUp(self) -> None:
        self.folder = self.mktemp()

    def assert_refused(self, load: Callable[[str], object], path: str, what: str) -> None:
        """Reading says, in one line, the file and this."""
        error = self.assertRaises(StartError, load, path)
        self.assertIn(path, str(error))
        self.assertIn(what, str(error))
        self.assertNotIn("\n", str(error))

    def test_chain(self) -> None:
        """All certificates of a file, in its order, though a key stands between."""
        ca = made("ca", ca=True)
        leaf = made("leaf", issuer=ca)
        path = put(self.folder, "all.pem", leaf.pem + leaf.key_pem() + ca.pem)
        self.assertEqual(load_certificates(path), [leaf.certificate, ca.certificate])
        self.assertEqual(
            load_key(path).public_key(),
            leaf.certificate.public_key(),
        )

    def test_revocation_lists(self) -> None:
        """Every list of a file; what is none is refused."""
        ca, other = made("ca", ca=True), made("other", ca=True)
        both = revocation_list(ca, made("x", issuer=ca)) + ca.pem + revocation_list(other)
        found = load_revocation_lists(put(self.folder, "crl.pem", both))
        self.assertEqual([len(one) for one in found], [1, 0])
        broken = b"-----BEGIN X509 CRL-----\nxx\n-----END X509 CRL-----\n"
        for data in (ca.pem, b"", broken):
            path = put(self.folder, "none.pem", data)
            self.assert_refused(load_revocation_lists, path, "is none in PEM")

    def test_missing(self) -> None:
        """A file that is not there, a folder, a name that can be none."""
        for path, what in (
            (self.folder + "/none.pem", "No such file"),
            ("/", "Is a directory"),
            ("a\0b", "no file's name"),
        ):
            self.assert_refused(load_certificates, path, what)
            self.assert_refused(load_key, path, what)

    def test_something_else(self) -> None:
        """Files without what is looked for, or with a broken one."""
        pair = made("x")
        certificate, key = pair.write(self.folder, "x")
        self.assert_refused(load_certificates, key, "no certificate in PEM")
        self.assert_refused(load_key, certificate, "no private key in PEM")
        broken = put(
            self.folder,
            "broken.pem",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        self.assert_refused(load_certificates, broken, "no certificate in PEM")
        self.assert_refused(load_key, broken, "no private key in PEM")

    def test_passphrase(self) -> None:
        """A key with a passphrase is refused: nobody is asked on a terminal."""
        path = put(self.folder, "locked.key", made("x").key_pem(b"secret"))
        self.assert_refused(load_key, path, "passphrase")
