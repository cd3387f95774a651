"""Certificates, keys and revocation lists as they stand in PEM files (RFC 7468)."""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxyd.errors import StartError

_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def load_certificates(path: str) -> list[x509.Certificate]:
    """
    The certificates of a file, in its order; what else stands in it is skipped.

    @return: at least one
    @raise StartError: the file can't be read, or there is no certificate in it
    """
    data = _contents(path, "certificate")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise StartError(f"certificate {path}: is no certificate in PEM") from None


def load_revocation_lists(path: str) -> list[x509.CertificateRevocationList]:
    """
    The revocation lists of a file, in its order.

    @return: at least one
    @raise StartError: the file can't be read, or there is none in it
    """
    data = _contents(path, "revocation list")
    try:
        found = [x509.load_pem_x509_crl(part) for part in _CRL.findall(data)]
    except ValueError:
        found = []
    if not found:
        raise StartError(f"revocation list {path}: is none in PEM")
    return found


def load_key(path: str) -> PrivateKeyTypes:
    """
    The private key of a file; certificates beside it are skipped.

    @raise StartError: the file can't be read, or has no private key, or one
        with a passphrase, which a daemon has nobody to ask for
    """
    data = _contents(path, "key")
    try:
        return load_pem_private_key(_key_part(data), None)
    except TypeError:
        raise StartError(f"key {path}: has a passphrase: give it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise StartError(f"key {path}: is no private key in PEM") from None


def _contents(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "is no file's name"
        raise StartError(f"{what} {path}: {said}") from None


def _key_part(data: bytes) -> bytes:
    """From the first private key on: files made for other daemons hold the certificate first."""
    found = re.search(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----", data, re.MULTILINE)
    return data[found.start() :] if found else data
