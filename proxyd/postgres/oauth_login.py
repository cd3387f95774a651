"""
C{auth: oauth}: a token by SASL OAUTHBEARER, as PostgreSQL 18's libpq has it, inside TLS only.

The same tokens as by C{auth: token}, and the same who knows whether they are good.
"""

from __future__ import annotations

from proxyd.interfaces import ITokens
from proxyd.postgres.admission import Admission, Stranger
from proxyd.postgres.answers import Fatal, wrong_password
from proxyd.postgres.directory import Place
from proxyd.postgres.token_login import admission_of, told
from proxyd.records import TokenRefused
from proxyd.target import Principal
from proxyd.wire.pg import messages
from proxyd.wire.pg.oauth import MECHANISM, OAuthBearer


class ByOAuth:
    """A way to authenticate: by a bearer token."""

    def __init__(self, tokens: ITokens) -> None:
        self._tokens = tokens

    async def admit(
        self, stranger: Stranger, place: Place | None, principal: Principal
    ) -> Admission:
        """
        Ask for a token, and have it checked.

        @raise Fatal: it is not good, or there is no TLS
        """
        if stranger.end.secure is None:
            raise Fatal(
                "28000",
                f"a token is asked for inside TLS only, and {stranger.host} came without",
                hint="Connect with sslmode=require, or stronger.",
            )
        exchange = OAuthBearer()
        request = messages.authentication_sasl([MECHANISM])
        token = exchange.initial_response(await stranger.ask(request, "SASL response"))
        try:
            if not token:
                raise wrong_password(principal.user, "it asks where tokens are had")
            return admission_of(await self._tokens.check(token), place, principal)
        except TokenRefused as refused:
            fatal = told(refused, principal)
        except Fatal as asked:
            fatal = asked
        refusal = messages.authentication_sasl_continue(exchange.refusal(self._tokens.discovery()))
        exchange.acknowledged(await stranger.ask(refusal, "SASL response"))
        raise fatal
