"""Certificates as tests need them: of any name, key, life and issuer."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Pair:
    """A certificate with its key, and the files they are in once they are written."""

    def __init__(self, certificate: x509.Certificate, key: Key) -> None:
        self.certificate = certificate
        self.key = key

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, passphrase: bytes | None = None) -> bytes:
        """The key in PEM."""
        way: KeySerializationEncryption = NoEncryption()
        if passphrase is not None:
            way = BestAvailableEncryption(passphrase)
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, way)

    def write(self, folder: str, name: str) -> tuple[str, str]:
        """Put both in files; their paths."""
        return (
            put(folder, f"{name}.pem", self.pem),
            put(folder, f"{name}.key", self.key_pem()),
        )


def put(folder: str, name: str, data: bytes) -> str:
    """A file with this in it; its path."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def made(
    common_name: str = "",
    *,
    names: tuple[str, ...] = (),
    issuer: Pair | None = None,
    ca: bool = False,
    key: Key | None = None,
    ends: timedelta = timedelta(days=1),
    hash_algorithm: hashes.HashAlgorithm | None = None,
) -> Pair:
    """A certificate; signed by its own key without an issuer."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
        )
    signer = issuer.key if issuer else own
    if isinstance(signer, ed25519.Ed25519PrivateKey):
        return Pair(builder.sign(signer, None), own)
    chosen = hash_algorithm or hashes.SHA256()
    return Pair(builder.sign(signer, chosen), own)  # type: ignore[arg-type]


def revocation_list(issuer: Pair, *revoked: Pair, ends: timedelta = timedelta(days=1)) -> bytes:
    """A CA's list of the certificates that it has taken back, in PEM."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - timedelta(days=10))
        .next_update(now + ends)
    )
    for pair in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(pair.certificate.serial_number)
            .revocation_date(now - timedelta(days=1))
            .build()
        )
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)  # type: ignore[arg-type]


def _general(name: str) -> x509.GeneralName:
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
