"""
RDS IAM tokens: a database password good for 15 minutes, made by signing.

Nothing is asked of AWS for a token: it is a presigned URL (RDS user guide,
"IAM database authentication"), made by botocore's own signer. The server looks
at it once, at the login.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace

from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import NoRegionError
from botocore.hooks import HierarchicalEmitter
from botocore.model import ServiceId
from botocore.signers import RequestSigner, generate_db_auth_token
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.dial.aws.account import AwsAccount, AwsSession
from proxyd.errors import DialError
from proxyd.interfaces import ITokenSource
from proxyd.target import Finding

ACTION = "rds-db:connect"

SKEW = 240.0
"""Seconds by which a clock may be wrong: AWS refuses signatures from 5 minutes on."""


def signed(credentials: ReadOnlyCredentials, region: str, host: str, port: int, user: str) -> str:
    """
    The token for one user at one server, good for 15 minutes from now.

    @param host: the endpoint's own name, not an alias: the server compares it
    """
    held = Credentials(credentials.access_key, credentials.secret_key, credentials.token)
    emitter = HierarchicalEmitter()  # the signer holds it weakly
    signer = RequestSigner(ServiceId("rds-db"), region, "rds-db", "v4", held, emitter)
    # What botocore puts into a client of RDS as a method needs no more of it than this.
    client = SimpleNamespace(_request_signer=signer, meta=SimpleNamespace(region_name=region))
    token: str = generate_db_auth_token(client, host, port, user, region)
    return token


@implementer(ITokenSource)
class IamTokens:
    """
    Makes a token for every login.

    @ivar made: how many so far
    """

    _log = Logger()
    clear_text = True

    def __init__(
        self,
        account: AwsAccount,
        user: str,
        region: str | None,
        region_of: Callable[[str], str | None],
        seconds: float,
    ) -> None:
        """
        @param user: whom the tokens are for
        @param region: None: from the host's name, else the account's
        @param region_of: the region in a host's name, or None
        @param seconds: that making one may take
        """
        self.made = 0
        self._account = account
        self._user = user
        self._region = region
        self._region_of = region_of
        self._seconds = seconds

    def token_for(self, host: str, port: int) -> Deferred[bytes]:
        """See L{ITokenSource}."""

        def make(session: AwsSession) -> bytes:
            region = self._region or self._region_of(host) or session.region()
            if region is None:
                raise NoRegionError
            return signed(session.credentials(), region, host, port, self._user).encode("ascii")

        def note(token: bytes) -> bytes:
            self.made += 1
            self._log.debug(
                "IAM token made for {user} at {host}:{port}", user=self._user, host=host, port=port
            )
            return token

        return self._account.run(make, ACTION, self._seconds).addCallback(note)

    def refused(self) -> Deferred[bool]:
        """See L{ITokenSource}: credentials that somebody renewed in a file are read again."""
        looking = self._account.run(AwsSession.read_again, ACTION, self._seconds)
        return looking.addErrback(lambda _: False)

    def examine(self) -> Deferred[Sequence[Finding]]:
        """See L{ITokenSource}: whose credentials they are, and whether the clock is right."""
        asking = self._account.run(_whoami, "sts:GetCallerIdentity", self._seconds)
        return asking.addErrback(_not_told)


def _whoami(session: AwsSession) -> Sequence[Finding]:
    """In a thread: the identity behind the credentials, and AWS's clock beside ours."""
    session.credentials()
    answer = session.client("sts", session.region() or "us-east-1").get_caller_identity()
    findings = [Finding("AWS credentials", True, f"they are those of {answer['Arn']}")]
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        return [*findings, Finding("clock", None, "AWS did not tell the time")]
    ahead = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    if abs(ahead) < SKEW:
        found = Finding("clock", True, f"within {abs(ahead):.0f} s of AWS's")
    else:
        word = "ahead of" if ahead > 0 else "behind"
        found = Finding(
            "clock",
            False,
            f"{abs(ahead):.0f} s {word} AWS's",
            "Synchronise this machine's clock (chrony, systemd-timesyncd): tokens carry the time.",
        )
    return [*findings, found]


def _not_told(failure: Failure) -> Sequence[Finding]:
    failure.trap(DialError)  # type: ignore[no-untyped-call]
    return [
        Finding(
            "AWS credentials",
            False,
            str(failure.value),
            "Tokens are signed here, so logins may still work; without credentials none does.",
        )
    ]
