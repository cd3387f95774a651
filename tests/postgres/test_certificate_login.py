"""Tests for L{proxyd.postgres.certificate_login}: clients with certificates, by real sockets."""

from __future__ import annotations

import ssl
from tempfile import TemporaryDirectory

from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel

from proxyd.config.certificate_rule import CertificateRule
from proxyd.config.model import PostgresTls
from tests.net.authority import Pair, made, put, revocation_list
from tests.postgres.scene import SceneTestCase
from tests.support.wireclient import Hangup, ServerError, WireClient, trusting_context

CA = made("clients' CA", ca=True)
ANN = made("ann", issuer=CA, names=("ann@shop.example",))
BOB = made("bob", issuer=CA)
STRANGER = made("ann", issuer=made("somebody's CA", ca=True))


class CertificateTests(SceneTestCase):
    """Who shows whose certificate gets in as whom."""

    async def setUp(self) -> None:
        """Have a CA whose certificates are believed."""
        await super().setUp()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.tls = PostgresTls("prefer", client_ca=put(self.folder, "ca.pem", CA.pem))
        self.fake.passwords["ann"] = b"hush"

    def context(self, owner: Pair | None, *, direct: bool = False) -> ssl.SSLContext:
        """A TLS client that shows a certificate."""
        context = trusting_context()
        if owner is not None:
            context.load_cert_chain(*owner.write(self.folder, "client"))
        if direct:
            context.set_alpn_protocols(["postgresql"])
        return context

    async def said(
        self,
        owner: Pair | None,
        user: str = "ann",
        database: str = "shop",
        password: str = "",
        *,
        tls: bool = True,
        direct: bool = False,
    ) -> str:
        """C{in}, or the SQLSTATE, or C{closed} where the handshake ended it."""
        context = self.context(owner, direct=direct)

        def run() -> str:
            with WireClient("127.0.0.1", self.listening_at) as client:
                try:
                    if direct:
                        client.begin_tls(context)
                    elif tls:
                        client.start_tls(context)
                    client.login(user, database, password)
                except ServerError as error:
                    return f"{error.sqlstate} {error.fields['M']}"
                except (Hangup, ssl.SSLError, OSError):
                    return "closed"
                return "in"

        return await deferToThread(run)

    async def test_own_name(self) -> None:
        """The common name is the user: nothing is asked, and another's is refused."""
        self.listen(self.connection(auth=("cert",)), tls=self.tls)
        self.assertEqual(await self.said(ANN), "in")
        self.assertEqual(await self.said(ANN, direct=True), "in")
        refused = '28000 certificate authentication failed for user "ann"'
        self.assertEqual(await self.said(BOB), refused)
        # Which databases there are is not told to somebody with a good certificate either.
        self.assertEqual(await self.said(BOB, database="nothing"), refused)
        self.assertEqual(await self.said(ANN, database="nothing"), refused)
        self.assertEqual({packet["user"] for packet in self.fake.startups}, {"svc"})
        self.assertIn("of 'CN=bob' is not this user's", "\n".join(self.logged(LogLevel.warn)))

    async def test_none(self) -> None:
        """Who shows none is told so, in PostgreSQL's words; with or without TLS."""
        self.listen(self.connection(auth=("cert",)), tls=self.tls)
        needed = "28000 connection requires a valid client certificate"
        self.assertEqual(await self.said(None), needed)
        self.assertEqual(await self.said(None, tls=False), needed)
        self.assertEqual(await self.said(None, database="nothing"), needed)

    async def test_another_ca(self) -> None:
        """A certificate that client_ca did not sign ends the handshake; the log says why."""
        listener = self.listen(self.connection(auth=("cert",)), tls=self.tls)
        self.assertEqual(await self.said(STRANGER), "closed")
        self.assertEqual(await self.said(STRANGER, direct=True), "closed")
        lines = self.logged(LogLevel.warn)
        self.assertEqual((len(lines), listener.refusals), (2, 2))
        for line in lines:
            self.assertIn("28000 its certificate is signed by a CA that is not trusted", line)
        self.assertEqual(self.fake.startups, [])

    async def test_revoked(self) -> None:
        """A certificate that was taken back ends the handshake, too."""
        crl = put(self.folder, "crl.pem", revocation_list(CA, BOB))
        tls = PostgresTls("prefer", client_ca=self.tls.client_ca, client_crl=crl)
        self.listen(self.connection(auth=("cert",)), tls=tls)
        self.assertEqual(await self.said(ANN), "in")
        self.assertEqual(await self.said(BOB, "bob"), "closed")
        self.assertIn("its certificate is revoked", self.logged(LogLevel.warn)[-1])

    async def test_map(self) -> None:
        """With a map its rules decide, and nothing else; the log tells the owners apart."""
        rules = (
            CertificateRule("san", r"/^(.*)@shop\.example$", r"\1"),
            CertificateRule("dn", "CN=bob", "app_*"),
        )
        self.listen(self.connection(auth=("cert",), cert_map=rules), tls=self.tls)
        self.assertEqual(await self.said(ANN), "in")
        self.assertEqual(await self.said(BOB, "app_rw"), "in")
        for owner, user in ((BOB, "bob"), (BOB, "ann"), (ANN, "app_rw")):
            self.assertTrue((await self.said(owner, user)).startswith("28000"), (owner, user))
        serial = f"{BOB.certificate.serial_number:x}"
        self.assertIn(f"[app_rw] showed the certificate {serial} of CN=bob", str(self.logged()))

    async def test_password_too(self) -> None:
        """A map beside a password: both must be good, and the password is asked for first."""
        rule = CertificateRule("cn", "ann", "ann")
        self.listen(self.connection(cert_map=(rule,)), tls=self.tls)
        self.assertEqual(await self.said(ANN, password="hush"), "in")
        self.assertTrue((await self.said(ANN, password="wrong")).startswith("28P01"))
        self.assertTrue((await self.said(BOB, password="hush")).startswith("28000 certificate"))
        self.assertTrue((await self.said(None, password="hush")).startswith("28000 connection"))

    async def test_verify_full(self) -> None:
        """tls: verify-full wants a certificate, whoever's it is; the password says who it is."""
        tls = PostgresTls("verify-full", client_ca=self.tls.client_ca)
        self.listen(self.connection(), tls=tls)
        self.assertEqual(await self.said(BOB, password="hush"), "in")
        self.assertTrue((await self.said(None, password="hush")).startswith("28000 connection"))
        self.assertTrue((await self.said(BOB, password="wrong")).startswith("28P01"))

    async def test_rules_come_after(self) -> None:
        """C{users} is asked for who was let in by a certificate, as for everybody."""
        self.listen(self.connection(auth=("cert",), users=("b*",)), tls=self.tls)
        self.assertIn("is not allowed to use database", await self.said(ANN))
        self.assertEqual(await self.said(BOB, "bob"), "in")
