"""Tests for L{proxyd.net.tls}: handshakes in memory, between the contexts as they are used."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from datetime import timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import DialError, DialFailure, StartError
from proxyd.net.tls import (
    client_context,
    handshake_failure,
    reason,
    server_context,
    set_server_name,
    tls_server_end_point,
    verify_server,
)
from tests.net.authority import Pair, made, put, revocation_list


class Session:
    """A client and a server that speak through memory."""

    def __init__(self, client: SSL.Context, server: SSL.Context, name: str = "") -> None:
        self.client = SSL.Connection(client, None)
        self.client.set_connect_state()
        self.server = SSL.Connection(server, None)
        self.server.set_accept_state()
        if name:
            set_server_name(self.client, name)

    def shake(self) -> None:
        """The handshake; raises what the side raises that notices the fault first."""
        for _ in range(10):
            done = [self._step(self.client, self.server), self._step(self.server, self.client)]
            if all(done):
                break
        else:
            raise AssertionError("the handshake does not end")
        # What TLS 1.3 sends after it (tickets) is taken too, so that nothing is left over.
        self.server.send(b"x")
        self._carry(self.server, self.client)
        assert self.client.recv(1) == b"x"

    def _step(self, mine: SSL.Connection, other: SSL.Connection) -> bool:
        try:
            mine.do_handshake()
        except SSL.WantReadError:
            return False
        finally:
            self._carry(mine, other)
        return True

    def _carry(self, mine: SSL.Connection, other: SSL.Connection) -> None:
        while True:
            try:
                other.bio_write(mine.bio_read(65536))
            except SSL.WantReadError:
                return


class TlsCase(SynchronousTestCase):
    """A CA and a server's certificate that it signed, in files."""

    def setUp(self) -> None:
        self.folder = self.mktemp()
        self.ca = made("test CA", ca=True)
        self.root, _ = self.ca.write(self.folder, "ca")
        self.leaf = made(names=("db.example", "127.0.0.1"), issuer=self.ca)

    def server(self, pair: Pair | None = None, **arguments: object) -> SSL.Context:
        """A server's context, with this certificate."""
        certificate, key = (pair or self.leaf).write(self.folder, "leaf")
        return server_context(certificate, key, **arguments)  # type: ignore[arg-type]

    def refusal(self, shake: Callable[[], object]) -> str:
        """What OpenSSL says against it."""
        return reason(self.assertRaises(SSL.Error, shake))


class ServerContextTests(TlsCase):
    """We speak TLS to clients as PostgreSQL does."""

    def plain(self, *versions: int) -> SSL.Context:
        """A client that believes everything, of these least and most TLS versions."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if versions:
            # Old versions need OpenSSL's own security level out of the way to be tried at all.
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.set_min_proto_version(versions[0])
            context.set_max_proto_version(versions[1])
        return context

    def test_versions(self) -> None:
        """TLS 1.2 and 1.3, nothing older."""
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            session = Session(self.plain(version, version), self.server())
            session.shake()
            self.assertEqual(session.client.get_protocol_version(), version)
        for version in (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION):
            session = Session(self.plain(version, version), self.server())
            self.assertIn("unsupported protocol", self.refusal(session.shake))

    def test_chain_is_sent(self) -> None:
        """The certificates between ours and the CA are shown too."""
        between = made("between", ca=True, issuer=self.ca)
        leaf = made(names=("db.example",), issuer=between)
        certificate = put(self.folder, "chain.pem", leaf.pem + between.pem)
        key = put(self.folder, "chain.key", leaf.key_pem())
        client = client_context("verify-full", root=self.root)
        session = Session(client, server_context(certificate, key), "db.example")
        session.shake()
        verify_server(session.client, "verify-full", "db.example")

    def test_alpn(self) -> None:
        """C{postgresql} is chosen; without ALPN all goes on; only other protocols: the end."""
        client = self.plain()
        client.set_alpn_protos([b"h2", b"postgresql"])
        session = Session(client, self.server())
        session.shake()
        self.assertEqual(session.client.get_alpn_proto_negotiated(), b"postgresql")
        session = Session(self.plain(), self.server())
        session.shake()
        self.assertEqual(session.server.get_alpn_proto_negotiated(), b"")
        web = self.plain()
        web.set_alpn_protos([b"http/1.1"])
        session = Session(web, self.server())
        self.assertIn("ALPN", self.refusal(session.shake))
        self.assertIn("no application protocol", self.refusal(session.shake).replace("_", " "))

    def test_nothing_to_resume(self) -> None:
        """No session can be resumed, of either TLS version."""
        context = self.server()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client.check_hostname = False
            client.verify_mode = ssl.CERT_NONE
            client.minimum_version = client.maximum_version = version
            _, session = self.connect(client, context, None)
            resumed, _ = self.connect(client, context, session)
            self.assertFalse(resumed, version)

    def connect(
        self, client: ssl.SSLContext, context: SSL.Context, session: ssl.SSLSession | None
    ) -> tuple[bool | None, ssl.SSLSession | None]:
        """Python's own client, which can try to resume; whether it did, and its session."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        mine = client.wrap_bio(to_client, to_server, session=session)
        theirs = SSL.Connection(context, None)
        theirs.set_accept_state()
        done = False
        for _ in range(10):
            for step in (mine.do_handshake, theirs.do_handshake):
                try:
                    step()
                    done = True
                except (ssl.SSLWantReadError, SSL.WantReadError):
                    done = False
                if to_server.pending:
                    theirs.bio_write(to_server.read())
                try:
                    to_client.write(theirs.bio_read(65536))
                except SSL.WantReadError:
                    pass
            if done:
                break
        theirs.send(b"x")
        to_client.write(theirs.bio_read(65536))
        self.assertEqual(mine.read(1), b"x")
        return mine.session_reused, mine.session

    def test_client_certificate(self) -> None:
        """With a client CA a client may show a certificate; it is let in only if that CA's."""
        mine, key = made("ann", issuer=self.ca).write(self.folder, "ann")
        stranger, stranger_key = made("eve", issuer=made("other", ca=True)).write(
            self.folder, "eve"
        )
        context = self.server(client_ca=self.root)
        session = Session(client_context("require", certificate=mine, key=key), context)
        session.shake()
        shown = session.server.get_peer_certificate()
        assert shown is not None
        self.assertEqual(shown.get_subject().CN, "ann")
        session = Session(client_context("require"), context)
        session.shake()
        self.assertIsNone(session.server.get_peer_certificate())
        other = client_context("require", certificate=stranger, key=stranger_key)
        self.assertIn("verify failed", self.refusal(Session(other, context).shake))

    def test_client_certificate_required(self) -> None:
        """Where it is a must, a client without one is refused."""
        context = self.server(client_ca=self.root, require_client_certificate=True)
        session = Session(client_context("require"), context)
        self.assertIn("did not return a certificate", self.refusal(session.shake))

    def assert_no_start(self, what: str, *arguments: str, **more: object) -> None:
        """The context is refused in one line with this in it."""
        error = self.assertRaises(StartError, server_context, *arguments, **more)
        self.assertIn(what, str(error))
        self.assertNotIn("\n", str(error))

    def test_bad_files(self) -> None:
        """Each file that is wrong is named, with what is wrong."""
        certificate, key = self.leaf.write(self.folder, "leaf")
        _, other = made("other").write(self.folder, "other")
        self.assert_no_start("certificate /none: No such file", "/none", key)
        self.assert_no_start("key /none: No such file", certificate, "/none")
        self.assert_no_start("does not belong to certificate", certificate, other)
        self.assert_no_start("no certificate in PEM", key, key)
        self.assert_no_start("certificate /none:", certificate, key, client_ca="/none")
        self.assert_no_start("no client_ca", certificate, key, require_client_certificate=True)


class ClientContextTests(TlsCase):
    """Toward servers sslmode means what it means to libpq."""

    def session(self, mode: str, pair: Pair | None = None, **arguments: str) -> Session:
        """A handshake that is about to begin, with this sslmode."""
        client = client_context(mode, **arguments)
        return Session(client, self.server(pair), "db.example")

    def assert_refused(self, session: Session, *parts: str) -> None:
        """The chain is not believed; what is told has these parts."""
        problem = self.assertRaises(SSL.Error, session.shake)
        error = handshake_failure(session.client, problem, "db.example")
        self.assertIs(error.failure, DialFailure.TLS)
        for part in ("db.example", *parts):
            self.assertIn(part, str(error))

    def test_unverified(self) -> None:
        """Below verify-ca anybody's certificate will do, for any name."""
        stranger = made(names=("other.example",))
        for mode in ("allow", "prefer", "require"):
            session = self.session(mode, stranger)
            session.shake()
            verify_server(session.client, mode, "db.example")

    def test_prefer_with_root(self) -> None:
        """A root makes nothing stricter where TLS itself is not a must."""
        self.session("prefer", made(names=("x",)), root=self.root).shake()

    def test_verified(self) -> None:
        """verify-ca, verify-full, and require with a root, take what the root has signed."""
        for mode in ("require", "verify-ca", "verify-full"):
            session = self.session(mode, root=self.root)
            session.shake()
            verify_server(session.client, mode, "db.example")

    def test_not_signed(self) -> None:
        """They refuse what it has not signed, and say what to do."""
        stranger = made(names=("db.example",), issuer=made("other CA", ca=True))
        for mode in ("require", "verify-ca", "verify-full"):
            session = self.session(mode, stranger, root=self.root)
            self.assert_refused(session, "not trusted", "sslrootcert")
        alone = made(names=("db.example",))
        self.assert_refused(self.session("verify-ca", alone, root=self.root), "by itself")

    def test_expired(self) -> None:
        """A certificate whose time is over is refused as that."""
        old = made(names=("db.example",), issuer=self.ca, ends=timedelta(days=-1))
        self.assert_refused(self.session("verify-ca", old, root=self.root), "expired")

    def test_system(self) -> None:
        """Without a root, or with C{system}, the system's CAs are trusted; not ours."""
        self.assert_refused(self.session("verify-ca"), "not trusted")
        self.assert_refused(self.session("verify-full", root="system"), "not trusted")

    def test_system_without_a_name(self) -> None:
        """C{system} is refused where the name would go unverified, as libpq does."""
        error = self.assertRaises(StartError, client_context, "verify-ca", root="system")
        self.assertIn("verify-full", str(error))

    def test_revoked(self) -> None:
        """A certificate on its CA's revocation list is refused as that; others are not."""
        good = made(names=("db.example",), issuer=self.ca)
        bad = made(names=("db.example",), issuer=self.ca)
        path = put(self.folder, "crl.pem", revocation_list(self.ca, bad))
        self.session("verify-full", good, root=self.root, revoked=path).shake()
        self.assert_refused(
            self.session("verify-full", bad, root=self.root, revoked=path), "revoked"
        )

    def test_revocation_list_that_is_none(self) -> None:
        """Without a list of the CA's, or with one that is outdated, nobody is believed."""
        other = put(self.folder, "other.pem", revocation_list(made("other CA", ca=True)))
        session = self.session("verify-full", root=self.root, revoked=other)
        self.assert_refused(session, "revocation list")
        old = put(self.folder, "old.pem", revocation_list(self.ca, ends=timedelta(days=-1)))
        session = self.session("verify-full", root=self.root, revoked=old)
        self.assert_refused(session, "outdated")
        self.assertRaises(
            StartError, client_context, "verify-ca", root=self.root, revoked=self.root
        )

    def test_versions(self) -> None:
        """TLS of the versions that were asked for, and no other."""
        for version in ("TLSv1.2", "TLSv1.3"):
            session = self.session("require", least=version, most=version)
            session.shake()
            self.assertEqual(session.client.get_protocol_version_name(), version)

    def test_other_failures(self) -> None:
        """A handshake that fails otherwise is told in OpenSSL's words."""
        session = self.session("verify-full", root=self.root)
        session.client.bio_write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        problem = self.assertRaises(SSL.Error, session.client.do_handshake)
        error = handshake_failure(session.client, problem, "db.example")
        self.assertIs(error.failure, DialFailure.TLS)
        self.assertIn("db.example: handshake:", str(error))
        self.assertIn("version number", str(error))

    def test_bad_files(self) -> None:
        """Files that can't be read are a StartError."""
        self.assertRaises(StartError, client_context, "verify-ca", root="/none")
        self.assertRaises(StartError, client_context, "require", certificate="/none", key="/none")

    def test_alpn(self) -> None:
        """The protocol's name is offered, as libpq 17 does."""
        session = self.session("require")
        session.shake()
        self.assertEqual(session.server.get_alpn_proto_negotiated(), b"postgresql")

    def test_server_name(self) -> None:
        """The server is told which name is meant, but never an address."""
        for name, said in (
            ("db.example", b"db.example"),
            ("bücher.example", b"xn--bcher-kva.example"),
            ("127.0.0.1", None),
            ("::1", None),
            ("", None),
        ):
            session = Session(client_context("require"), self.server(), name)
            session.shake()
            self.assertEqual(session.server.get_servername(), said)


class VerifyServerTests(TlsCase):
    """verify-full: the certificate must be for the name that was asked for."""

    def verify(self, pair: Pair, hostname: str) -> None:
        """Handshake, and look at the name."""
        session = Session(client_context("verify-full", root=self.root), self.server(pair))
        session.shake()
        verify_server(session.client, "verify-full", hostname)

    def assert_wrong(self, pair: Pair, hostname: str, *parts: str) -> None:
        """The name is wrong; the error names both sides."""
        error = self.assertRaises(DialError, self.verify, pair, hostname)
        self.assertIs(error.failure, DialFailure.TLS)
        for part in (hostname, *parts):
            self.assertIn(part, str(error))

    def test_names(self) -> None:
        """Names of any case, addresses, and names that a wildcard stands for."""
        leaf = made(names=("db.example", "*.pool.example", "10.1.2.3", "::1"), issuer=self.ca)
        for hostname in ("db.example", "DB.Example", "a.pool.example", "10.1.2.3", "::1"):
            self.verify(leaf, hostname)
        for hostname in ("x.db.example", "a.b.pool.example", "10.1.2.4", "::2"):
            self.assert_wrong(leaf, hostname, "db.example", "10.1.2.3", "sslmode=verify-ca")

    def test_common_name(self) -> None:
        """Without alternative names the common name counts, as for libpq."""
        self.verify(made("db.example", issuer=self.ca), "db.example")
        self.verify(made("10.1.2.3", issuer=self.ca), "10.1.2.3")
        self.verify(made("db.example", names=("dba@db.example",), issuer=self.ca), "db.example")
        self.assert_wrong(made("db.example", issuer=self.ca), "other.example", "db.example")
        self.assert_wrong(made("db.example", issuer=self.ca), "10.1.2.3")

    def test_common_name_beside_others(self) -> None:
        """
        With alternative names of the kind that is asked for it does not count, as for libpq.

        Compared with libpq itself in C{test_tls_libpq}.
        """
        leaf = made("db.example", names=("other.example",), issuer=self.ca)
        self.assert_wrong(leaf, "db.example", "other.example")
        leaf = made("10.1.2.3", names=("10.9.9.9",), issuer=self.ca)
        self.assert_wrong(leaf, "10.1.2.3", "10.9.9.9")
        self.verify(made("db.example", names=("10.1.2.3",), issuer=self.ca), "db.example")

    def test_no_name(self) -> None:
        """A certificate without any name is for nobody."""
        self.assert_wrong(made("", issuer=self.ca), "db.example", "no name at all")


class ChannelBindingTests(SynchronousTestCase):
    """tls-server-end-point is the certificate's hash by RFC 5929's rule."""

    def test_hashes(self) -> None:
        """The signature's own hash."""
        for algorithm, reference in (
            (hashes.SHA256(), hashlib.sha256),
            (hashes.SHA384(), hashlib.sha384),
            (hashes.SHA512(), hashlib.sha512),
        ):
            pair = made("x", hash_algorithm=algorithm)
            der = pair.certificate.public_bytes(Encoding.DER)
            self.assertEqual(tls_server_end_point(pair.certificate), reference(der).digest())

    def test_sha1(self) -> None:
        """SHA-256 in place of SHA-1."""
        certificate = _Old(made("x"))
        self.assertEqual(
            tls_server_end_point(certificate),  # type: ignore[arg-type]
            b"fingerprint by sha256",
        )

    def test_ed25519(self) -> None:
        """A signature without a hash of its own has no such binding."""
        pair = made("x", key=ed25519.Ed25519PrivateKey.generate())
        self.assertRaises(ValueError, tls_server_end_point, pair.certificate)


class _Old:
    """A certificate signed with SHA-1, which today's libraries no longer make."""

    signature_hash_algorithm = hashes.SHA1()

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def fingerprint(self, algorithm: hashes.HashAlgorithm) -> bytes:
        """Says by which hash it was asked for."""
        return f"fingerprint by {algorithm.name}".encode()


class ReasonTests(SynchronousTestCase):
    """What OpenSSL says becomes one line."""

    def test_reasons(self) -> None:
        """Lists of errors, silence, system errors."""
        for error, said in (
            (SSL.Error([("SSL routines", "f", "wrong version number")]), "wrong version number"),
            (SSL.Error([("a", "b", "one"), ("a", "b", "two")]), "one, two"),
            (SSL.Error([]), "unknown error"),
            (SSL.SysCallError(-1, "Unexpected EOF"), "the peer ended the connection"),
            (SSL.SysCallError(104, "ECONNRESET"), "ECONNRESET"),
            (SSL.ZeroReturnError(), "the peer ended the connection"),
            (OSError(32, "Broken pipe"), "Broken pipe"),
        ):
            self.assertEqual(reason(error), said)
