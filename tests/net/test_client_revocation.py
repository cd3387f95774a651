"""Tests for L{proxyd.net.tls}: client certificates that their CA took back."""

from __future__ import annotations

import os
from datetime import timedelta
from tempfile import TemporaryDirectory

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import StartError
from proxyd.net.tls import client_context, server_context, verdict_of
from tests.net.authority import Pair, made, put, revocation_list


class RevocationTests(SynchronousTestCase):
    """A certificate that its CA took back."""

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.ca = made("clients' CA", ca=True)
        self.server = made("proxyd.test").write(self.folder, "server")
        self.root = put(self.folder, "ca.pem", self.ca.pem)
        self.ann, self.bob = made("ann", issuer=self.ca), made("bob", issuer=self.ca)

    def judged(self, owner: Pair, lists: bytes) -> str | None:
        """What a server with these lists says of a client."""
        path = put(self.folder, "crl.pem", lists)
        context = server_context(*self.server, client_ca=self.root, client_crl=path)
        here = SSL.Connection(context, None)
        certificate, key = owner.write(self.folder, "client")
        there = SSL.Connection(client_context("require", certificate=certificate, key=key), None)
        here.set_accept_state()
        there.set_connect_state()
        for _ in range(10):
            for one, other in ((there, here), (here, there)):
                try:
                    one.do_handshake()
                except SSL.WantReadError:
                    pass
                except SSL.Error:
                    return verdict_of(here)
                try:
                    other.bio_write(one.bio_read(65536))
                except SSL.WantReadError:
                    pass
        return verdict_of(here)

    def test_revoked(self) -> None:
        """Whoever is on the list is refused, and nobody else."""
        lists = revocation_list(self.ca, self.bob)
        self.assertEqual(self.judged(self.bob, lists), "revoked")
        self.assertIsNone(self.judged(self.ann, lists))

    def test_several(self) -> None:
        """A file may hold the lists of several CAs, in any order."""
        other = made("another CA", ca=True)
        lists = revocation_list(other) + b"\n" + revocation_list(self.ca, self.bob)
        self.assertEqual(self.judged(self.bob, lists), "revoked")
        self.assertIsNone(self.judged(self.ann, lists))

    def test_no_list_of_the_ca(self) -> None:
        """Where nothing is known of the CA's certificates, none is taken."""
        lists = revocation_list(made("another CA", ca=True))
        self.assertIn("not in a revocation list", str(self.judged(self.ann, lists)))

    def test_out_of_date(self) -> None:
        """A list of yesterday says nothing of today."""
        lists = revocation_list(self.ca, ends=timedelta(days=-1))
        self.assertIn("is outdated", str(self.judged(self.ann, lists)))

    def test_unreadable(self) -> None:
        """A file that is no list stops the start, in one line."""
        for data in (b"", self.ca.pem, b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"):
            error = self.assertRaises(StartError, self.judged, self.ann, data)
            self.assertIn("crl.pem: is none in PEM", str(error))
        missing = os.path.join(self.folder, "nothing")
        error = self.assertRaises(
            StartError, server_context, *self.server, client_ca=self.root, client_crl=missing
        )
        self.assertIn("nothing: No such file", str(error))
