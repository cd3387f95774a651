"""
Who we are to an SSH server: key files, and what signs with them.

Keys that an agent holds are in L{proxyd.ssh.agent}; both are an L{Identity}.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from twisted.conch.ssh.keys import BadKeyError, EncryptedKeyError, Key
from twisted.internet.defer import Deferred, succeed

from proxyd.ssh.known_hosts import type_of

_CERTIFICATE = b"-cert-v01@openssh.com"
_RSA_SIGNATURES = (b"rsa-sha2-512", b"rsa-sha2-256")


class IdentityError(Exception):
    """A key can't be used; the text says which, why, and what to do."""


class Identity(Protocol):
    """A key to log in with."""

    @property
    def blob(self) -> bytes:
        """The public key, or the certificate of it, as SSH sends it."""

    @property
    def name(self) -> str:
        """What an error calls it."""

    @property
    def ask_first(self) -> bool:
        """Whether the server is asked about it before something is signed."""

    def sign(self, data: bytes, signature: bytes) -> Deferred[bytes]:
        """
        Sign something.

        @param signature: the algorithm, one of L{algorithms_for}
        @return: fires with a signature as SSH sends it; fails with IdentityError
        """


@dataclass(frozen=True, slots=True)
class Algorithm:
    """
    A way to use a key.

    @param name: what it is called in a login (RFC 8332, section 3)
    @param signature: what the signature is called
    """

    name: bytes
    signature: bytes


def algorithms_for(blob: bytes, accepted: Sequence[bytes]) -> list[Algorithm]:
    """
    How a key may be used toward a server, best first.

    RSA keys sign with SHA-2 only.

    @param accepted: what the server says it takes (C{server-sig-algs}, RFC
        8308); empty where it has not said so
    """
    key_type = type_of(blob)
    certificate = _CERTIFICATE if key_type.endswith(_CERTIFICATE) else b""
    plain = key_type.removesuffix(certificate)
    signatures = _RSA_SIGNATURES if plain == b"ssh-rsa" else (plain,)
    ways = [Algorithm(one + certificate, one) for one in signatures]
    return [way for way in ways if not accepted or {way.name, way.signature} & set(accepted)]


class FileIdentity:
    """
    A private key that was read from a file.

    @param key: the private key
    @param certificate: a certificate of it, shown in place of the public key
    """

    ask_first = False

    def __init__(self, key: Key, name: str, certificate: bytes = b"") -> None:
        self._key = key
        self.name = name
        self.blob: bytes = certificate or key.blob()  # type: ignore[no-untyped-call]

    def sign(self, data: bytes, signature: bytes) -> Deferred[bytes]:
        """See L{Identity.sign}."""
        return succeed(self._key.sign(data, signature))


def read_key(path: Path, passphrase: str | None) -> list[Identity]:
    """
    Read a private key; a certificate beside it (C{NAME-cert.pub}) is shown first.

    Blocks: with a passphrase it takes a noticeable part of a second.

    @param path: in any form that OpenSSH writes
    @raise IdentityError: it can't be read
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise IdentityError(f"{path}: {(problem.strerror or 'not readable').lower()}") from None
    secret = None if passphrase is None else passphrase.encode()
    try:
        key = _parse(data, secret)
    except EncryptedKeyError:
        raise IdentityError(
            f"{path}: encrypted, and no passphrase is given (ssh.passphrase: env:NAME)"
        ) from None
    except (BadKeyError, UnsupportedAlgorithm, ValueError, TypeError, IndexError) as problem:
        if secret is not None and "assphrase" not in str(problem):
            try:
                key = _parse(data, None)  # a passphrase is given, and none is needed
            except Exception:
                raise IdentityError(f"{path}: wrong passphrase, or not a private key") from None
        else:
            raise IdentityError(f"{path}: not a private key that can be read here") from None
    if key.isPublic():  # type: ignore[no-untyped-call]
        raise IdentityError(f"{path}: this is the public key; name the private one")
    if key.type() == "DSA":
        raise IdentityError(f"{path}: DSA keys are not used; make an ed25519 key")
    plain = FileIdentity(key, str(path))
    certificate = _certificate_beside(path)
    if not certificate:
        return [plain]
    return [FileIdentity(key, f"{path}-cert.pub", certificate), plain]


def _parse(data: bytes, passphrase: bytes | None) -> Key:
    key: Key = Key.fromString(data, passphrase=passphrase)  # type: ignore[no-untyped-call]
    return key


def _certificate_beside(path: Path) -> bytes:
    try:
        words = path.with_name(f"{path.name}-cert.pub").read_bytes().split()
        blob = b64decode(words[1])
        return blob if type_of(blob) == words[0] and words[0].endswith(_CERTIFICATE) else b""
    except (OSError, IndexError, ValueError):
        return b""
