"""
Somebody's AWS account: credentials, refreshed by botocore and kept over a hiccup.

L{AwsSession} blocks, and is used in threads only; L{AwsAccount} is what the
reactor's thread has of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from traceback import extract_tb
from typing import Any, TypeVar

import botocore.session
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.dial.aws.words import told
from proxyd.errors import DialError, DialFailure
from proxyd.net.threads import Overloaded, Threads

_T = TypeVar("_T")

# What botocore warns of is told here, once and in our words; its own way would be stderr.
logging.getLogger("botocore").addHandler(logging.NullHandler())
logging.getLogger("botocore").propagate = False

_MARGIN = timedelta(seconds=5)
"""So long before their end credentials are not used any more."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials given outright, instead of a profile's."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class AwsSession:
    """
    Credentials and clients of one profile, or of the machine. Blocks: for threads only.

    botocore finds and refreshes the credentials: profile, environment, SSO,
    assume-role, instance role. Where a refresh fails, the last good ones are
    used as long as they are valid.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        profile: str | None = None,
        keys: Keys | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        call_time: float = 10.0,
    ) -> None:
        """
        @param profile: None: AWS's own search
        @param keys: used instead of a profile's
        @param region: None: the profile's
        @param endpoint_url: where all services are, in place of AWS's own endpoints
        @param call_time: seconds that one call to AWS may take to connect, and to answer
        """
        self._profile = profile
        self._keys = keys
        self._region = region
        self._endpoint_url = endpoint_url
        self._config = Config(
            connect_timeout=call_time,
            read_timeout=call_time,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
        self._session: botocore.session.Session | None = None
        self._clients: dict[tuple[str, str | None], Any] = {}
        self._good: ReadOnlyCredentials | None = None
        self._good_until: datetime | None = None
        self._complained = False

    def region(self) -> str | None:
        """The region that was given, else the profile's or the environment's."""
        if self._region is not None:
            return self._region
        found: str | None = self._own().get_config_variable("region")
        # What other tools of AWS go by, botocore does not know.
        return found or os.environ.get("AWS_REGION")

    def credentials(self) -> ReadOnlyCredentials:
        """
        Credentials that are good now.

        @raise BotoCoreError: there are none, and no last good ones
        """
        try:
            source = self._own().get_credentials()
            if source is None:
                raise NoCredentialsError
            frozen: ReadOnlyCredentials = source.get_frozen_credentials()
        except Exception as error:
            kept = self._kept()
            if kept is None:
                if isinstance(error, (BotoCoreError, ClientError)):
                    raise
                raise _NotHad(why=f"{type(error).__name__}: {error}") from None
            if not self._complained:
                self._complained = True
                self._log.warn(
                    "AWS credentials could not be refreshed, the last ones are used: {reason}",
                    reason=told(error, "refreshing"),
                )
            return kept
        self._complained = False
        self._good = frozen
        self._good_until = getattr(source, "_expiry_time", None)
        return frozen

    def read_again(self) -> bool:
        """
        Look for the credentials anew, as if just started.

        @return: whether others were found
        @raise BotoCoreError: none were found
        """
        before = self._good
        self._session, self._clients = None, {}
        return bool(self.credentials() != before)

    def client(self, service: str, region: str | None = None) -> Any:
        """A client of one of AWS's services; made once for a region."""
        key = (service, region or self.region())
        clients = self._clients  # another thread may read all again meanwhile
        if key not in clients:
            clients[key] = self._own().create_client(
                service, region_name=key[1], endpoint_url=self._endpoint_url, config=self._config
            )
        return clients[key]

    def _own(self) -> botocore.session.Session:
        """botocore's session; made once."""
        if self._session is None:
            session = botocore.session.Session(profile=self._profile)
            if self._keys is not None:
                keys = self._keys
                session.set_credentials(keys.access_key, keys.secret_key, keys.session_token)
            self._session = session
        return self._session

    def _kept(self) -> ReadOnlyCredentials | None:
        """The last good credentials, if they are good still; those without an end have none."""
        if self._good_until is None or datetime.now(UTC) + _MARGIN >= self._good_until:
            return None
        return self._good


class _NotHad(BotoCoreError):  # type: ignore[misc]  # botocore has no types
    """A provider of credentials failed in a way of its own."""

    fmt = "the AWS credentials could not be had: {why}"


class AwsAccount:
    """Calls made with somebody's credentials, in threads."""

    def __init__(self, threads: Threads, clock: IReactorTime, session: AwsSession) -> None:
        self._threads = threads
        self._clock = clock
        self._session = session

    def run(self, work: Callable[[AwsSession], _T], action: str, seconds: float) -> Deferred[_T]:
        """
        Do something that needs the account, in a thread.

        @param work: blocks
        @param action: what it is, as IAM calls it: C{rds-db:connect}
        @param seconds: it is waited for no longer
        @return: fails with L{DialError} only (CREDENTIALS; BROKEN where AWS
            said no; TIMEOUT), its text in the operator's words
        """

        def do() -> _T:
            try:
                return work(self._session)
            except ClientError as error:
                raise DialError(DialFailure.BROKEN, told(error, action)) from None
            except BotoCoreError as error:
                raise DialError(DialFailure.CREDENTIALS, told(error, action)) from None
            except DialError:
                raise
            except Exception as error:
                # What botocore lets through of the libraries below it; its text may be anything.
                last = extract_tb(error.__traceback__)[-1]
                where = f"{type(error).__name__} at {os.path.basename(last.filename)}:{last.lineno}"
                raise DialError(DialFailure.BROKEN, f"{action} failed: {where}") from None

        def too_late(_: object, limit: float) -> _T:
            # What is left of somebody's deadline is no round number.
            raise DialError(DialFailure.TIMEOUT, f"{action}: no answer in {round(limit, 1):g} s")

        def crowded(failure: Failure) -> _T:
            failure.trap(Overloaded)  # type: ignore[no-untyped-call]
            raise DialError(DialFailure.BROKEN, str(failure.value)) from None

        doing = self._threads.run(do)
        doing.addTimeout(seconds, self._clock, too_late)
        return doing.addErrback(crowded)
