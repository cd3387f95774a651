"""
C{auth: token}: the password is a token, and whoever knows all tokens is asked.
"""

from __future__ import annotations

from dataclasses import replace

from proxyd.interfaces import ITokens
from proxyd.postgres.admission import Admission, Term
from proxyd.postgres.answers import Fatal, wrong_password
from proxyd.postgres.directory import Place
from proxyd.records import DatabaseId, Grant, Refusal, TokenRefused
from proxyd.target import Principal

ANYBODY = "token"
"""The user name that every token is good for."""

_TOLD = {
    Refusal.UNKNOWN: (
        "28000",
        "the token is not known here",
        "It was removed, or never registered: ask for a new one.",
    ),
    Refusal.EXPIRED: ("28000", "the token has expired", "Ask for a new one."),
    Refusal.REVOKED: ("28000", "the token was revoked", "Ask for a new one."),
    Refusal.WRONG_DATABASE: ("28000", "the token is for another database", ""),
    Refusal.WRONG_USER: (
        "28000",
        "the token is not for this user name",
        "The user name in the URL is `token`, or a role that the token names.",
    ),
    Refusal.STORE_LOST: (
        "57P03",
        "it can't be told now whether the token is good",
        "The store of tokens does not answer: try again later.",
    ),
    Refusal.ISSUER_LOST: (
        "57P03",
        "it can't be told now whether the token is good",
        "The keys of its issuer can't be had: try again later.",
    ),
}


class TokenCheck:
    """Has a token checked by whoever knows all of them."""

    def __init__(self, tokens: ITokens) -> None:
        self._tokens = tokens

    def takes(self, password: bytes) -> bool:
        """What has the shape of a token, good or not: it never goes to a server."""
        return self._tokens.looks_like_token(password)

    async def check(self, place: Place | None, principal: Principal, password: bytes) -> Admission:
        """
        Check a token.

        @raise Fatal: it does not let in
        """
        try:
            grant = await self._tokens.check(password)
            return admission_of(grant, place, principal)
        except TokenRefused as refused:
            raise told(refused, principal) from None


def admission_of(grant: Grant, place: Place | None, principal: Principal) -> Admission:
    """
    Let in whom a good token lets in, where it lets in to.

    @raise TokenRefused: it is for another database, or not for this user
    """
    user = principal.user
    wanted = connection_name(grant.database_id)
    stranger = user != ANYBODY and user not in grant.roles
    if place is None or place.connection.name != wanted:
        raise TokenRefused(
            Refusal.WRONG_DATABASE, f"token {grant.token_id}", "" if stranger else wanted
        )
    if stranger:
        raise TokenRefused(Refusal.WRONG_USER, f"token {grant.token_id}")
    if user == ANYBODY and len(grant.roles) == 1:
        # There is one person whom this token stands for.
        principal = replace(principal, user=grant.roles[0])
    return Admission(principal, Term(grant))


def connection_name(database_id: DatabaseId) -> str:
    """The connection that a token's C{database_id} stands for."""
    return f"db_{database_id}" if isinstance(database_id, int) else database_id


def told(refused: TokenRefused, principal: Principal) -> Fatal:
    """What the client is told; the log has the rest."""
    reason = f"token {refused}"
    if refused.refusal is Refusal.BAD:
        return wrong_password(principal.user, reason)
    sqlstate, message, hint = _TOLD[refused.refusal]
    fatal = Fatal(sqlstate, message, hint=hint, reason=reason)
    fatal.good_for = refused.good_for
    return fatal
