"""
C{auth: cert}: a client is who its certificate says it is.

Nothing is asked: what counts was shown in the TLS handshake, where OpenSSL
refused whatever C{client_ca} did not sign. Behind is the pool's service user,
as everywhere.
"""

from __future__ import annotations

from twisted.logger import Logger

from proxyd.config.certificate_rule import OWN_NAME, CertificateRule
from proxyd.net.client_certificate import ClientCertificate, shown_certificate
from proxyd.postgres.admission import Admission, Stranger
from proxyd.postgres.answers import certificate_needed, wrong_certificate
from proxyd.postgres.directory import Place
from proxyd.target import Principal

_log = Logger()


class ByCertificate:
    """A way to authenticate: by the certificate that the client showed."""

    async def admit(
        self, stranger: Stranger, place: Place | None, principal: Principal
    ) -> Admission:
        """
        Let a client in whose certificate stands for the user that it wants to be.

        @raise Fatal: it showed none, or another's
        """
        certificate = _certificate_of(stranger)
        if place is None:
            raise wrong_certificate(principal.user, "there is nowhere to go")
        _compare(stranger, certificate, place.connection.cert_map or OWN_NAME, principal)
        return Admission(principal)


def demand_certificate(stranger: Stranger, place: Place, principal: Principal) -> None:
    """
    Where a connection has a C{cert_map} and another way to authenticate: see that both agree.

    @raise Fatal: the certificate stands for somebody else
    """
    _compare(stranger, _certificate_of(stranger), place.connection.cert_map, principal)


def _certificate_of(stranger: Stranger) -> ClientCertificate:
    certificate = shown_certificate(stranger.end.secure)
    if certificate is None:
        raise certificate_needed()
    return certificate


def _compare(
    stranger: Stranger,
    certificate: ClientCertificate,
    rules: tuple[CertificateRule, ...],
    principal: Principal,
) -> None:
    owner = {"subject": certificate.subject, "serial": f"{certificate.serial:x}"}
    if not any(rule.lets(certificate.named_by(rule.part), principal.user) for rule in rules):
        reason = f"the certificate {owner['serial']} of {certificate.subject!r} is not this user's"
        raise wrong_certificate(principal.user, reason)
    # A map may let many owners be one user: this line is what tells them apart.
    _log.info(
        "[{source}] [{user}] showed the certificate {serial} of {subject}",
        source=stranger.source,
        user=principal.user,
        **owner,
    )
