"""
Tokens of outside issuers: whose they are, that they are whole, and what they allow.

Source: RFC 7519; RFC 8725 ("JSON Web Token Best Current Practices").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from proxyd.auth.issued import database_of, digest_of, time_of
from proxyd.auth.jwks import Fetch, KeySet
from proxyd.auth.jws import Signed
from proxyd.config.token_settings import Issuer, KeyTimes
from proxyd.records import Grant, Refusal, TokenRefused


class Issuers:
    """All outside issuers of the configuration."""

    def __init__(
        self,
        clock: IReactorTime,
        fetch_of: Callable[[Issuer], Fetch],
        times: KeyTimes | None = None,
        steady: IReactorTime | None = None,
    ) -> None:
        """
        @param clock: tells the hour, for dates that others wrote
        @param fetch_of: gives what fetches an issuer's keys
        @param steady: measures how old keys are; None: as C{clock} does
        """
        self._clock = clock
        self._steady = clock if steady is None else steady
        self._fetch_of = fetch_of
        self._times = KeyTimes() if times is None else times
        self._known: dict[str, tuple[Issuer, KeySet]] = {}

    def adopt(self, issuers: Sequence[Issuer]) -> None:
        """
        Believe these from now on; the keys of those that stay are kept.

        @raise StartError: the certificates of one can't be read; nothing is changed
        """
        known: dict[str, tuple[Issuer, KeySet]] = {}
        for issuer in issuers:
            old = self._known.get(issuer.issuer)
            if old is not None and old[0] == issuer:
                known[issuer.issuer] = old
            else:
                keys = KeySet(self._steady, issuer, self._fetch_of(issuer), self._times)
                known[issuer.issuer] = (issuer, keys)
        before, self._known = self._known, known
        for name, (_, keys) in before.items():
            if name not in known or known[name][1] is not keys:
                keys.stop()

    def stop(self) -> None:
        """Fetch no more."""
        self.adopt(())

    async def check(self, signed: Signed, token: bytes) -> Grant:
        """
        What an issuer's token allows; whether it was revoked is not looked at.

        @raise TokenRefused: it is not good
        """
        name = signed.claims.get("iss")
        known = self._known.get(name) if isinstance(name, str) else None
        if known is None:
            raise TokenRefused(Refusal.BAD, "its issuer is not one of ours")
        issuer, keys = known
        await keys.verify(signed)
        return self._grant(issuer, signed.claims, token)

    def _grant(self, issuer: Issuer, claims: Mapping[str, Any], token: bytes) -> Grant:
        now, skew = self._clock.seconds(), self._times.skew
        if not _audience(claims.get("aud")) & set(issuer.audience):
            raise TokenRefused(Refusal.BAD, "it is for another audience")
        ends = time_of(claims, "exp") + skew
        if ends <= now:
            raise TokenRefused(Refusal.EXPIRED)
        for name in ("nbf", "iat"):
            if name in claims and time_of(claims, name) > now + skew:
                raise TokenRefused(Refusal.BAD, f"its time has not come yet ({name})")
        token_id = claims.get("jti")
        if token_id is None:
            # It can be revoked all the same: by its hash.
            token_id = f"sha256:{digest_of(token).hex()}"
        if (
            not isinstance(token_id, str)
            or not 0 < len(token_id) <= 200
            or not token_id.isprintable()
        ):
            raise TokenRefused(Refusal.BAD, "its claim jti is no short text")
        database_id = database_of(claims.get(issuer.database_claim))
        return Grant(
            token_id, issuer.issuer, database_id, ends, _roles(claims.get(issuer.role_claim))
        )


def _audience(claim: object) -> set[str]:
    if isinstance(claim, str):
        return {claim}
    if isinstance(claim, list):
        return {one for one in claim if isinstance(one, str)}
    return set()


def _roles(claim: object) -> tuple[str, ...]:
    """The names that a token is good for; none where the claim says none."""
    if isinstance(claim, str):
        return (claim,)
    if isinstance(claim, list) and all(isinstance(one, str) for one in claim):
        return tuple(claim)
    return ()
