"""
The ways to authenticate, by what C{auth:} says.

To add one: a file of its own with a L{Way<proxyd.postgres.admission.Way>} (or a
L{PasswordCheck<proxyd.postgres.password_prompt.PasswordCheck>}), and one entry
in L{ways}.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxyd.interfaces import ITokens
from proxyd.postgres.admission import Way
from proxyd.postgres.backend_login import BackendCheck, Verifier
from proxyd.postgres.certificate_login import ByCertificate
from proxyd.postgres.oauth_login import ByOAuth
from proxyd.postgres.password_prompt import ByPassword
from proxyd.postgres.token_login import TokenCheck
from proxyd.postgres.trust_login import Trust

Ways = Mapping[tuple[str, ...], Way]
"""What is done for each value that a connection's C{auth} may have."""


def ways(verifier: Verifier, tokens: ITokens | None = None) -> Ways:
    """
    All ways to authenticate that there are.

    @param verifier: asks servers whether a password is right
    @param tokens: knows which tokens are good; None: there are none
    """
    backend = BackendCheck(verifier)
    found: dict[tuple[str, ...], Way] = {
        ("backend",): ByPassword(backend),
        ("cert",): ByCertificate(),
        ("trust",): Trust(verifier),
    }
    # Where there are no tokens, those who ask for a registered database are asked for a password.
    found["token",] = found["backend",]
    if tokens is not None:
        token = TokenCheck(tokens)
        found["oauth",] = ByOAuth(tokens)
        found["token",] = ByPassword(token)
        found["backend", "token"] = ByPassword(token, backend)
    return found
