"""Tests for L{proxyd.net.client_certificate}."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.client_certificate import ClientCertificate, read_certificate, shown_certificate
from tests.net.authority import made

ATTRIBUTES = [
    (NameOID.ORGANIZATION_NAME, "Shop, Inc."),
    (NameOID.COMMON_NAME, "ann"),
    (NameOID.EMAIL_ADDRESS, "ann@shop.example"),
]


def certificate_of(
    attributes: list[tuple[x509.ObjectIdentifier, str]], *names: x509.GeneralName
) -> ClientCertificate:
    """What is read of a certificate with this subject and these alternative names."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(*attribute) for attribute in attributes])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return read_certificate(builder.sign(key, hashes.SHA256()))


class ReadTests(SynchronousTestCase):
    """The names in a certificate."""

    def test_subject(self) -> None:
        """The subject as RFC 4514 writes it, the narrowest part first."""
        found = certificate_of(ATTRIBUTES)
        self.assertEqual(found.subject, r"emailAddress=ann@shop.example,CN=ann,O=Shop\, Inc.")
        self.assertEqual((found.named_by("dn"), found.serial), ((found.subject,), 77))

    def test_common_name(self) -> None:
        """One common name is one; of several nobody knows which was meant."""
        self.assertEqual(certificate_of(ATTRIBUTES).named_by("cn"), ("ann",))
        two = [*ATTRIBUTES, (NameOID.COMMON_NAME, "postgres")]
        self.assertEqual(certificate_of(two).named_by("cn"), ())
        self.assertEqual(certificate_of(ATTRIBUTES[:1]).named_by("cn"), ())

    def test_escapes(self) -> None:
        """A name that looks like more of a subject does not become more of it."""
        found = certificate_of([(NameOID.COMMON_NAME, "ann,O=Shop")])
        self.assertEqual(found.subject, r"CN=ann\,O=Shop")

    def test_alternatives(self) -> None:
        """DNS names, mail addresses, URIs and IP addresses."""
        names = read_certificate(
            made("x", names=("a.example", "ann@x.example", "10.0.0.1")).certificate
        )
        self.assertEqual(names.named_by("san"), ("a.example", "ann@x.example", "10.0.0.1"))
        spiffe = "spiffe://shop.example/app"
        found = certificate_of(ATTRIBUTES, x509.UniformResourceIdentifier(spiffe))
        self.assertEqual(found.named_by("san"), (spiffe,))
        self.assertEqual(certificate_of(ATTRIBUTES).named_by("san"), ())

    def test_no_tls(self) -> None:
        """Without TLS nothing was shown."""
        self.assertIsNone(shown_certificate(None))
