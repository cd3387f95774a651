"""
TLS contexts, and the checks that go with them.

Here is decided what TLS we speak and whom we trust; the bytes are moved by
whoever holds the descriptor, with C{OpenSSL.SSL.Connection(context, socket)}.

Toward clients a context does as PostgreSQL does (be-secure-openssl.c): TLS 1.2
and later, no renegotiation, no compression, nothing to resume. Toward servers
C{sslmode} means what it means to libpq (PostgreSQL documentation, "SSL
Support", table "SSL Mode Descriptions").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, DNSPattern, verify_service_identity
from service_identity.pyopenssl import verify_hostname, verify_ip_address

from proxyd.errors import DialError, DialFailure, StartError
from proxyd.net.pem import load_certificates, load_key, load_revocation_lists

POSTGRESQL = b"postgresql"
"""PostgreSQL's name in ALPN (PostgreSQL documentation, "Message Flow: SSL Session Encryption")."""

_VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}

_REASONS = {
    # X509_V_ERR_* of OpenSSL's x509_vfy.h: those an operator can do something about.
    3: "not in a revocation list: its CA has none",
    9: "not valid yet: look at the clocks",
    10: "expired",
    12: "not to be checked: the revocation list of its CA is outdated",
    18: "signed by itself",
    19: "signed by a CA that is not trusted",
    20: "signed by a CA that is not trusted",
    21: "signed by a CA that is not trusted",
    23: "revoked",
    24: "signed by a certificate that is no CA's",
    26: "not made for this",
}


def server_context(
    certificate_path: str,
    key_path: str,
    *,
    client_ca: str | None = None,
    client_crl: str | None = None,
    require_client_certificate: bool = False,
    alpn: Sequence[bytes] = (POSTGRESQL,),
) -> SSL.Context:
    """
    How we speak TLS to clients.

    A client that offers ALPN protocols, but none of ours, is refused with the
    alert no_application_protocol (RFC 7301, section 3.2), as PostgreSQL 17
    does. One that offers none gets through: where ALPN is a must, look at
    C{get_alpn_proto_negotiated()} after the handshake.

    @param certificate_path: PEM, our certificate first, then its chain
    @param key_path: PEM, its private key, without a passphrase
    @param client_ca: PEM, the CAs whose client certificates are believed; a
        client may still come without one
    @param client_crl: PEM, the revocation lists of these CAs
    @param require_client_certificate: a client must show one
    @param alpn: the protocols we speak, the most wanted first
    @raise StartError: one line with the file and what is wrong with it
    """
    context = _context(SSL.TLS_SERVER_METHOD)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    _use_certificate(context, certificate_path, key_path)
    if client_ca is not None:
        cas = _trust(context, client_ca)
        context.set_client_ca_list([ca.get_subject() for ca in cas])
        if client_crl is not None:
            _distrust(context, client_crl)
        mode = SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE
        if require_client_certificate:
            mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        verdicts = _Verdicts()
        context.set_app_data(verdicts)
        context.set_verify(mode, verdicts.note)
    elif require_client_certificate:
        raise StartError("tls: client certificates are required, but no client_ca says whose")
    context.set_alpn_select_callback(_alpn_choice(tuple(alpn)))
    return context


def client_context(
    sslmode: str,
    *,
    root: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
    revoked: str | None = None,
    least: str | None = None,
    most: str | None = None,
) -> SSL.Context:
    """
    How we speak TLS to a PostgreSQL server.

    Its chain is verified in the handshake for verify-ca and verify-full, and
    for require where a root is given. Whether the name is right is
    L{verify_server}'s business, and what went wrong in a handshake
    L{handshake_failure}'s.

    @param sslmode: prefer, require... by libpq's names; whether to do without
        TLS at all (disable, allow, prefer) is decided by whoever dials
    @param root: PEM, the CAs that are trusted; None or C{system}: the system's
    @param certificate: PEM, our client certificate and its chain
    @param key: PEM, its private key; absent: it stands in C{certificate}
    @param revoked: PEM, the revocation lists: one of each CA in the server's
        chain, none of them outdated, or no server is believed
    @param least: the oldest TLS that is spoken, C{TLSv1.2} or C{TLSv1.3}
    @param most: the newest
    @raise StartError: one line with the file and what is wrong with it, or
        C{root} is C{system} where the name would not be verified, as anybody
        can have a certificate that the system's CAs signed
    """
    if root == "system" and sslmode != "verify-full":
        raise StartError(f"sslrootcert=system needs sslmode=verify-full, not {sslmode}")
    context = _context(SSL.TLS_CLIENT_METHOD)
    context.set_alpn_protos([POSTGRESQL])
    if least is not None:
        context.set_min_proto_version(_VERSIONS[least])
    if most is not None:
        context.set_max_proto_version(_VERSIONS[most])
    if certificate is not None:
        _use_certificate(context, certificate, key or certificate)
    if not verifies_chain(sslmode, root):
        return context
    if root in (None, "system"):
        context.set_default_verify_paths()
    else:
        _trust(context, root)
    if revoked is not None:
        _distrust(context, revoked)
    verdicts = _Verdicts()
    context.set_app_data(verdicts)
    context.set_verify(SSL.VERIFY_PEER, verdicts.note)
    return context


def verifies_chain(sslmode: str, root: str | None) -> bool:
    """
    Whether a server's certificate must be signed by a CA that is trusted.

    For libpq, C{require} with a root certificate is the same as C{verify-ca}.
    """
    return sslmode in ("verify-ca", "verify-full") or (sslmode == "require" and root is not None)


def set_server_name(connection: SSL.Connection, hostname: str) -> None:
    """
    Say in the handshake which server is meant (SNI, RFC 6066 section 3).

    An IP address is not said: RFC 6066 has no place for it. Nor is an empty name.
    """
    if hostname and not _is_address(hostname):
        connection.set_tlsext_host_name(_ascii(hostname))


def verify_server(connection: SSL.Connection, sslmode: str, hostname: str) -> None:
    """
    After the handshake: is this the server that was meant?

    Does nothing below C{verify-full}. The names in the certificate's
    subjectAltName count (RFC 9525); where it has none of the kind of
    C{hostname} (DNS name, IP address), its first common name does, as for
    libpq (C{pgtls_verify_peer_name_matches_certificate_guts}). A wildcard
    stands for one whole label, the first, and at least two follow it.

    @param hostname: as the DSN has it: a name or an IP address
    @raise DialError: TLS: the certificate is for another name, or there is none
    """
    if sslmode != "verify-full":
        return
    shown = connection.get_peer_certificate()
    if shown is None:
        raise DialError(DialFailure.TLS, f"{hostname}: the server showed no certificate")
    certificate = shown.to_cryptography()
    try:
        if not _has_alternative_names(certificate, hostname):
            _verify_common_name(certificate, hostname)
        elif _is_address(hostname):
            verify_ip_address(connection, hostname)
        else:
            verify_hostname(connection, hostname)
    except (VerificationError, CertificateError, ValueError) as error:
        names = ", ".join(certificate_names(certificate)) or "no name at all"
        raise DialError(
            DialFailure.TLS,
            f"{hostname}: the server's certificate is for {names}: connect by a name it"
            " has, or use sslmode=verify-ca",
        ) from error


def handshake_failure(connection: SSL.Connection, error: Exception, hostname: str) -> DialError:
    """
    What to tell when a handshake with a server failed.

    @param error: what C{do_handshake} raised (C{OpenSSL.SSL.Error}, OSError)
    @param hostname: the server, as the DSN has it
    @return: TLS, with a text that says what to do
    """
    verdict = verdict_of(connection)
    if verdict is not None:
        return DialError(
            DialFailure.TLS,
            f"{hostname}: the server's certificate is {verdict}: name its CA by sslrootcert,"
            " or give the server a certificate that is good",
        )
    return DialError(DialFailure.TLS, f"{hostname}: handshake: {reason(error)}")


def verdict_of(connection: SSL.Connection) -> str | None:
    """Why the peer's certificate was refused in the handshake; None: it was not."""
    verdicts = connection.get_context().get_app_data()
    return verdicts.of(connection) if isinstance(verdicts, _Verdicts) else None


def reason(error: Exception) -> str:
    """What OpenSSL said, in one line: "wrong version number", "unexpected end"..."""
    if isinstance(error, (SSL.SysCallError, SSL.ZeroReturnError)):
        # OpenSSL's number -1 is no errno: the peer ended without a word.
        if error.args and isinstance(error.args[0], int) and error.args[0] > 0:
            return str(error.args[1])
        return "the peer ended the connection"
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        texts = [str(entry[-1]) for entry in error.args[0] if entry and entry[-1]]
        return ", ".join(texts) or "unknown error"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def tls_server_end_point(certificate: x509.Certificate) -> bytes:
    """
    The channel binding tls-server-end-point of a server's certificate.

    The certificate's hash, by the hash function of its signature, but SHA-256
    for MD5 and SHA-1 (RFC 5929, section 4.1).

    @raise ValueError: the signature has no single hash function (Ed25519...),
        so that RFC 5929 defines no such binding
    """
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None:
        raise ValueError("no channel binding is defined for a certificate of this kind")
    if isinstance(algorithm, (hashes.MD5, hashes.SHA1)):
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names and addresses a certificate is for, else its common names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return _common_names(certificate)
    found = names.get_values_for_type(x509.DNSName)
    found.extend(str(address) for address in names.get_values_for_type(x509.IPAddress))
    return found or _common_names(certificate)


class _Verdicts:
    """Remembers why a peer's certificate was refused: the handshake's error doesn't say."""

    def __init__(self) -> None:
        self._reasons: WeakKeyDictionary[SSL.Connection, str] = WeakKeyDictionary()

    def note(
        self, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        """OpenSSL's verify callback: its word stands."""
        if not ok:
            self._reasons[connection] = _REASONS.get(error, f"not good (OpenSSL's error {error})")
        return bool(ok)

    def of(self, connection: SSL.Connection) -> str | None:
        """Why this connection's peer was refused, or None."""
        return self._reasons.get(connection)


def _context(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # With no cache and OP_NO_TICKET, what TLS 1.3 still sends as a ticket can't be redeemed.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(
        SSL.OP_NO_RENEGOTIATION  # type: ignore[attr-defined]
        | SSL.OP_NO_COMPRESSION
        | SSL.OP_NO_TICKET
        # A peer that leaves out close_notify is at its end, and no more is wrong with it.
        | SSL.OP_IGNORE_UNEXPECTED_EOF  # type: ignore[attr-defined]
    )
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def _alpn_choice(ours: tuple[bytes, ...]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    def choose(_: SSL.Connection, offered: list[bytes]) -> bytes:
        for protocol in ours:
            if protocol in offered:
                return protocol
        # Any exception in here becomes the alert, and then do_handshake's.
        raise SSL.Error([("", "", "the client's ALPN offers no protocol of ours")])

    return choose


def _use_certificate(context: SSL.Context, certificate_path: str, key_path: str) -> None:
    chain = load_certificates(certificate_path)
    key = load_key(key_path)
    if key.public_key() != chain[0].public_key():
        raise StartError(f"key {key_path}: does not belong to certificate {certificate_path}")
    try:
        context.use_certificate(crypto.X509.from_cryptography(chain[0]))
        for above in chain[1:]:
            context.add_extra_chain_cert(crypto.X509.from_cryptography(above))
        context.use_privatekey(crypto.PKey.from_cryptography_key(key))  # type: ignore[arg-type]
    except (SSL.Error, TypeError) as error:
        raise StartError(f"certificate {certificate_path}: {reason(error)}") from None


def _trust(context: SSL.Context, path: str) -> list[crypto.X509]:
    store = context.get_cert_store()
    assert store is not None, "every context has one"
    cas = [crypto.X509.from_cryptography(ca) for ca in load_certificates(path)]
    for ca in cas:
        store.add_cert(ca)
    return cas


def _distrust(context: SSL.Context, path: str) -> None:
    """Believe no certificate in the chain that one of these revocation lists names."""
    store = context.get_cert_store()
    assert store is not None, "every context has one"
    for revoked in load_revocation_lists(path):
        store.add_crl(revoked)
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)


def _has_alternative_names(certificate: x509.Certificate, hostname: str) -> bool:
    """Whether the subjectAltName has a name of the kind that the host's is."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    kind = x509.IPAddress if _is_address(hostname) else x509.DNSName
    return any(isinstance(name, kind) for name in names)


def _verify_common_name(certificate: x509.Certificate, hostname: str) -> None:
    names = _common_names(certificate)[:1]
    if _is_address(hostname):
        if hostname not in names:
            raise ValueError("another address")
        return
    patterns = [DNSPattern.from_bytes(name.encode("ascii")) for name in names]
    verify_service_identity(patterns, obligatory_ids=[DNS_ID(hostname)], optional_ids=[])


def _common_names(certificate: x509.Certificate) -> list[str]:
    attributes = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [str(attribute.value) for attribute in attributes]


def _is_address(hostname: str) -> bool:
    try:
        ip_address(hostname)
    except ValueError:
        return False
    return True


def _ascii(hostname: str) -> bytes:
    """A host name as it goes over the wire, and as it was looked up: in A-labels (RFC 3490)."""
    return hostname.encode("ascii" if hostname.isascii() else "idna")
