"""
By what an agent believes its server: the system's CAs, a CA of its own, or one certificate's hash.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.errors import DialError, DialFailure, StartError
from proxyd.net.pem import load_certificates

Creator = Callable[[str], IOpenSSLClientConnectionCreator]

_PIN = "sha256:"


def by_authorities(path: str | None) -> Creator:
    """
    Believe whom these CAs vouch for, by name.

    @param path: a PEM file; None: the system's CAs
    @raise StartError: it can't be read
    """
    if path is None:
        return optionsForClientTLS
    certificates = [
        Certificate(crypto.X509.from_cryptography(one))  # type: ignore[no-untyped-call]
        for one in load_certificates(path)
    ]
    root = trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]
    return lambda host: optionsForClientTLS(host, trustRoot=root)


def by_pin(pin: str) -> Creator:
    """
    Believe one certificate, whoever signed it and whatever its names are.

    @param pin: C{sha256:} and the SHA-256 of the certificate (DER) in hex
    @raise StartError: it is no such hash
    """
    word = pin.lower().removeprefix(_PIN).replace(":", "")
    try:
        digest = bytes.fromhex(word)
    except ValueError:
        digest = b""
    if not pin.lower().startswith(_PIN) or len(digest) != hashlib.sha256().digest_size:
        raise StartError("--pin must be sha256: and 64 hexadecimal digits")
    return lambda host: _Pinned(digest, host)


def pin_of(certificate_der: bytes) -> str:
    """The pin of a certificate."""
    return _PIN + hashlib.sha256(certificate_der).hexdigest()


@implementer(IOpenSSLClientConnectionCreator)
class _Pinned:
    """Connections that believe one certificate."""

    def __init__(self, digest: bytes, host: str) -> None:
        self._digest = digest
        self._host = host
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        # It is looked at below, whatever its chain is.
        self._context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        self._context.set_info_callback(self._looked)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """A connection of Twisted's."""
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        if any(letter.isalpha() for letter in self._host) and ":" not in self._host:
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection

    def _looked(self, connection: SSL.Connection, where: int, returned: int) -> None:
        if not where & SSL.SSL_CB_HANDSHAKE_DONE:
            return
        certificate = connection.get_peer_certificate()
        der = (
            b""
            if certificate is None
            else crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        )
        if not hmac.compare_digest(hashlib.sha256(der).digest(), self._digest):
            error = DialError(
                DialFailure.TLS, f"{self._host}: its certificate is not the pinned one"
            )
            # In a callback of OpenSSL nothing may be raised: Twisted ends the connection.
            connection.get_app_data().failVerification(Failure(error))  # type: ignore[no-untyped-call]
