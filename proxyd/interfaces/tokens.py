"""Who knows which tokens are good, and who gets tokens for servers."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from proxyd.records import Grant
from proxyd.target import Finding


class IRevocable(Interface):
    """A live session that a token let in."""

    def revoke(reason: str) -> None:  # noqa: N805
        """
        End within a second, with 57P01 where a message border allows it.

        @param reason: for the log
        """


class ITokens(Interface):
    """Whoever knows which tokens are good."""

    def looks_like_token(password: bytes) -> bool:  # noqa: N805
        """Whether a password has the shape of a token, good or not."""

    def discovery() -> str:
        """The URL of the document that says where tokens are had; empty: there is none."""

    def check(token: bytes) -> Deferred[Grant]:  # noqa: N805
        """
        What a token allows.

        Fails with L{TokenRefused<proxyd.records.TokenRefused>} only. The
        database is not looked at: the caller compares C{Grant.database_id}.
        """

    def attach(grant: Grant, session: IRevocable) -> None:  # noqa: N805
        """
        A session begins: it is revoked with its token, or when that expires.

        @raise TokenRefused: the token was revoked or expired meanwhile
        """

    def detach(grant: Grant, session: IRevocable) -> None:  # noqa: N805
        """A session is over."""


class ITokenSource(Interface):
    """Where a database server's password comes from when no configuration has it."""

    made = Attribute("How many tokens (or passwords) were handed out so far: C{int}")

    clear_text = Attribute(
        "C{bool}: what it gives may be sent in clear, which is done inside TLS only"
    )

    def token_for(
        host: str,  # noqa: N805 (an interface of zope has no self)
        port: int,
    ) -> Deferred[bytes]:
        """
        A token for one login, now.

        Fails with L{DialError<proxyd.errors.DialError>} only, or with
        C{CancelledError} when it is cancelled. It has no deadline of its own.

        @param host: the server's name, as the configuration has it
        """

    def refused() -> Deferred[bool]:
        """
        The server did not accept the last token.

        Fires with whether another try may go better, since something else was
        found; never fails.
        """

    def examine() -> Deferred[Sequence[Finding]]:
        """Look at everything that a token needs; what is wrong is in the findings."""
