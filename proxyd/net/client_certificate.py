"""
What a client's certificate says of its owner.

Whether a CA that is trusted signed it, and whether it was revoked, OpenSSL
found out in the handshake; here it is only read.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from proxyd.net.secure import Secure

_SHORT = {NameOID.EMAIL_ADDRESS: "emailAddress", NameOID.USER_ID: "UID"}


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """
    The names in a certificate.

    @param common_names: those of its subject
    @param subject: the whole subject, as RFC 4514 writes it: the narrowest
        part first, C{CN=ann,O=Shop}
    @param alternatives: its subjectAltName's DNS names, addresses (IP and
        mail) and URIs
    @param serial: its number, by which a CA names it
    """

    common_names: tuple[str, ...]
    subject: str
    alternatives: tuple[str, ...]
    serial: int

    def named_by(self, part: str) -> tuple[str, ...]:
        """The names of one kind: C{cn}, C{dn} or C{san}."""
        if part == "cn":
            # Of several nobody can say which one the CA meant.
            return self.common_names if len(self.common_names) == 1 else ()
        return (self.subject,) if part == "dn" else self.alternatives


def shown_certificate(secure: Secure | None) -> ClientCertificate | None:
    """The certificate that a client showed in its handshake, where it did."""
    shown = None if secure is None else secure.connection.get_peer_certificate()
    return None if shown is None else read_certificate(shown.to_cryptography())


def read_certificate(certificate: x509.Certificate) -> ClientCertificate:
    """Read the names; an extension that can't be read has none."""
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return ClientCertificate(
        tuple(str(attribute.value) for attribute in common),
        certificate.subject.rfc4514_string(_SHORT),
        _alternatives(certificate),
        certificate.serial_number,
    )


def _alternatives(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    found: list[str] = []
    for kind in (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier):
        found.extend(names.get_values_for_type(kind))
    found.extend(str(address) for address in names.get_values_for_type(x509.IPAddress))
    return tuple(found)
