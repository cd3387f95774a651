"""Which source of passwords a connection has at AWS, and on whose account."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from proxyd.config.aws import region_of
from proxyd.config.model import Connection
from proxyd.dial.aws.account import AwsAccount, AwsSession
from proxyd.dial.aws.iam import IamTokens
from proxyd.dial.aws.secrets_manager import StoredPassword
from proxyd.interfaces import ITokenSource
from proxyd.net.threads import Threads


class AwsSources:
    """
    The sources of all connections.

    What is unchanged over a reload stays: its credentials need not be had anew.

    @param threads: gives, for a profile's name, the threads in which AWS is asked for it:
        one whose credentials hang (a C{credential_process} may do so for ever) holds up no other
    """

    def __init__(self, threads: Callable[[str], Threads], clock: IReactorTime) -> None:
        self._threads = threads
        self._clock = clock
        self._accounts: dict[str | None, AwsAccount] = {}
        self._sources: dict[object, ITokenSource] = {}

    def source_of(self, connection: Connection) -> ITokenSource | None:
        """The source that a connection's password comes from; None: not from AWS."""
        iam, secret, user = connection.aws_iam_auth, connection.aws_secret, connection.dsn.user
        if iam is not None and (iam, user) not in self._sources:
            self._sources[iam, user] = IamTokens(
                self._account(iam.profile),
                user or "",
                iam.region,
                region_of,
                iam.connection_timeout,
            )
        if secret is not None and secret not in self._sources:
            self._sources[secret] = StoredPassword(
                self._account(secret.profile),
                secret.arn,
                secret.region,
                connection.connect_timeout,
            )
        return self._sources.get((iam, user)) or self._sources.get(secret)

    def _account(self, profile: str | None) -> AwsAccount:
        if profile not in self._accounts:
            session = AwsSession(profile=profile)
            threads = self._threads(profile or "")
            self._accounts[profile] = AwsAccount(threads, self._clock, session)
        return self._accounts[profile]
