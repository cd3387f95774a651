"""
How tokens are treated, as values of the configuration; who reads them: L{proxyd.config.tokens}.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxyd.config.secrets import Secret

ALGORITHMS = ("RS256", "ES256", "EdDSA")
"""Signatures of outside issuers that are taken."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """
    Somebody else whose tokens let in.

    @param issuer: what the claim C{iss} must be
    @param audience: what the claim C{aud} must name: one of them
    @param jwks_url: where its keys are had: https, or http on loopback
    @param algorithms: of L{ALGORITHMS}
    @param database_claim: the claim that names the database
    @param role_claim: the claim that names the user (or a list of them) that
        the token is good for
    @param ca: the path of a file of certificates that its server's must be
        signed by; None: those of the system
    """

    issuer: str
    audience: tuple[str, ...]
    jwks_url: str
    algorithms: tuple[str, ...] = ALGORITHMS
    database_claim: str = "database_id"
    role_claim: str = "sub"
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """
    The section C{tokens}.

    @param secret: what our own tokens are signed with; None: made and kept in
        the state directory
    @param previous: what older ones may be signed with
    @param ttl: seconds that a new token is good for
    @param max_staleness: seconds for which a shared store may be silent
    @param when_store_lost: then: refuse_new, end_sessions or keep
    """

    secret: Secret | None = None
    previous: tuple[Secret, ...] = ()
    ttl: float = 730 * 86400.0
    max_staleness: float = 5.0
    when_store_lost: str = "refuse_new"
    issuers: tuple[Issuer, ...] = ()


NODE_LIFE = 10.0
"""Seconds between two signs of life of a node; after sixty without one it is taken for gone."""

CANCEL_ELSEWHERE = 5.0
"""Seconds that a cancel request for another node may take."""

NODES_AGAIN = 1.0
"""Seconds between two looks for a node that nobody knows, whatever cancel requests come."""

STORE_POLL = 0.4
"""Seconds between two looks for changes in a shared store: a revocation reaches it in a second."""


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """
    Seconds around an issuer's keys that no key sets.

    @param kept: how long fetched keys are used before they are looked at again
    @param pause: between two fetches, whatever tokens come
    @param fetch: how long one may take
    @param skew: by how much an issuer's clock may differ from ours
    """

    kept: float = 600.0
    pause: float = 10.0
    fetch: float = 5.0
    skew: float = 30.0
