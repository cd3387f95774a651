"""
proxyd's own certificate, for when none is configured, and the folder it is kept in.

There is a CA of our own (whose C{ca.pem} users may trust once and for all) and
a certificate it signs, made anew before it ends. Keys are ECDSA P-256, which
all PostgreSQL clients take; with Ed25519 psql fails.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.interfaces import IReactorTime

from proxyd.config.model import State
from proxyd.errors import StartError
from proxyd.net.pem import load_certificates, load_key
from proxyd.net.tls import certificate_names

CA_LIFE = timedelta(days=3650)
LIFE = timedelta(days=365)
RENEWAL = timedelta(days=30)
"""How long before its end a certificate is made anew."""

ALWAYS = ("localhost", "127.0.0.1", "::1")


def state_directory(state: State, environment: Mapping[str, str]) -> str:
    """
    The folder where proxyd keeps what it must remember.

    C{$STATE_DIRECTORY} (which systemd sets), else the folder of the configured
    SQLite file, else C{./.proxyd}. It is not made here.

    @param state: the configuration's section
    @param environment: where C{STATE_DIRECTORY} is looked up
    @return: an absolute path
    """
    # systemd names several folders with colons between them: systemd.exec(5).
    given = environment.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return os.path.abspath(given)
    url = urlsplit(state.url or "")
    # Some write four slashes for an absolute path; POSIX would leave the second one in.
    path = unquote(url.netloc + url.path).replace("//", "/")
    if url.scheme == "sqlite" and path:
        return os.path.abspath(os.path.dirname(os.path.expanduser(path)))
    return os.path.abspath(".proxyd")


def own_certificate(
    directory: str, *, names: Iterable[str], clock: IReactorTime
) -> tuple[str, str]:
    """
    A certificate of our own for these names, made now if there is none that will do.

    One will do that our CA signed, that has all the names, and that ends in
    more than 30 days. The CA is made once; when it nears its end, so are both.
    Files are replaced whole, and two processes don't disturb one another.

    @param directory: the state directory; made with mode 0700 if it is not there
    @param names: host names and IP addresses, beside localhost, 127.0.0.1 and ::1
    @param clock: tells the time (seconds since the epoch, as the reactor does)
    @return: the paths of the certificate and of its key (C{proxyd.pem}, C{proxyd.key});
        the CA is C{ca.pem} beside them
    @raise StartError: one line with the file and what is wrong with it
    """
    now = datetime.fromtimestamp(clock.seconds(), UTC)
    files = _Files(directory)
    wanted = list(dict.fromkeys((*ALWAYS, *(name for name in names if name))))
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with _alone(directory):
            if not _will_do(files, wanted, now):
                _make(files, wanted, now)
    except OSError as error:
        where = error.filename or directory
        raise StartError(f"state directory: {where}: {error.strerror}") from None
    return files.certificate, files.key


class _Files:
    """Where each of the four files is."""

    __slots__ = ("ca", "ca_key", "certificate", "key")

    def __init__(self, directory: str) -> None:
        self.ca = os.path.join(directory, "ca.pem")
        self.ca_key = os.path.join(directory, "ca.key")
        self.certificate = os.path.join(directory, "proxyd.pem")
        self.key = os.path.join(directory, "proxyd.key")


def _will_do(files: _Files, names: list[str], now: datetime) -> bool:
    if not all(map(os.path.exists, (files.ca, files.certificate, files.key))):
        return False
    try:
        ca = load_certificates(files.ca)[0]
        leaf = load_certificates(files.certificate)[0]
        key = load_key(files.key)
        leaf.verify_directly_issued_by(ca)
    except (StartError, InvalidSignature, ValueError, TypeError):
        # What is broken is made anew; a CA that is broken speaks up there.
        return False
    return (
        key.public_key() == leaf.public_key()
        and set(certificate_names(leaf)) >= {_normal(name) for name in names}
        and min(leaf.not_valid_after_utc, ca.not_valid_after_utc) - now > RENEWAL
    )


def _make(files: _Files, names: list[str], now: datetime) -> None:
    ca, ca_key = _authority(files, now)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _signed_leaf(names, key.public_key(), ca, ca_key, now)
    # The key first: a crash between the two leaves a pair that doesn't match, which is noticed.
    _write(files.key, _pem_key(key), 0o600)
    _write(files.certificate, leaf.public_bytes(Encoding.PEM), 0o644)


def _authority(files: _Files, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Our CA: the one on disk, unless there is none or it nears its end."""
    there = [path for path in (files.ca, files.ca_key) if os.path.exists(path)]
    if len(there) == 2:
        ca, key = load_certificates(files.ca)[0], load_key(files.ca_key)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
            raise StartError(_broken(files, f"{files.ca_key} is not the key of {files.ca}"))
        if ca.not_valid_after_utc - now > RENEWAL:
            return ca, key
    elif there:
        # Making another CA unasked would lock out those who trust this one.
        raise StartError(_broken(files, f"only {there[0]} is there"))
    key = ec.generate_private_key(ec.SECP256R1())
    ca = _self_signed(key, now)
    _write(files.ca_key, _pem_key(key), 0o600)
    _write(files.ca, ca.public_bytes(Encoding.PEM), 0o644)
    return ca, key


def _broken(files: _Files, what: str) -> str:
    return f"{what}: restore it, or remove {files.ca} and {files.ca_key} to have a new CA made"


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # The name differs with each CA made: clients look issuers up by name.
    name = _name(f"proxyd CA {secrets.token_hex(4)}")
    usage = _key_usage(key_cert_sign=True, crl_sign=True, digital_signature=True)
    return (
        _builder(name, name, key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _signed_leaf(
    names: list[str],
    key: ec.EllipticCurvePublicKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    issuer_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(_name("proxyd"), ca.subject, key, now, LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # A client whose clock is a little slow must get in too.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(_normal(name))


def _normal(name: str) -> str:
    """A name as a certificate holds it: addresses in one form, other names in A-labels."""
    try:
        return str(ip_address(name))
    except ValueError:
        pass
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        raise StartError(f"certificate: {name} is no host name") from None


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """No other process of ours is in here at the same time."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: str, data: bytes, mode: int) -> None:
    """Replace a file whole: whoever reads it sees the old one or the new one."""
    beside = f"{path}.{secrets.token_hex(4)}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        os.unlink(beside)
        raise
