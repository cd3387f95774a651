"""
Sessions of AWS's Session Manager: started, resumed, ended, and their WebSockets signed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event, Lock
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.dial.aws.account import AwsAccount, AwsSession
from proxyd.dial.aws.words import is_passing, told
from proxyd.errors import DialError, DialFailure
from proxyd.session_source import ISessionSource, SessionTicket

_T = TypeVar("_T")
_log = Logger()

_SIGNING_NAME = "ssmmessages"
"""What the relay's signatures are for (session-manager-plugin, config.ServiceName)."""

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds, less some jitter, between two tries when AWS asks to slow down."""

_GONE = frozenset({"DoesNotExistException"})

_making = Lock()  # making a client of botocore's is not safe in two threads


class _Passing(DialError):
    """The same call may well succeed a little later."""


@implementer(ISessionSource)
class SsmSessions:
    """
    Sessions on somebody's account.

    @param seconds: that each call may take, with its repeats
    @param jitter: gives numbers from nought to one
    """

    def __init__(
        self,
        account: AwsAccount,
        clock: IReactorTime,
        jitter: Callable[[], float],
        seconds: float,
    ) -> None:
        self._account = account
        self._clock = clock
        self._jitter = jitter
        self._seconds = seconds

    def check(self) -> Deferred[None]:
        """See L{ISessionSource.check}."""

        def look(session: AwsSession) -> None:
            session.credentials()
            _client(session)

        return self._account.run(look, "ssm:StartSession", self._seconds)

    def start(
        self, instance: str, document: str, parameters: Mapping[str, str]
    ) -> Deferred[SessionTicket]:
        """See L{ISessionSource.start}."""
        action = "ssm:StartSession"
        given_up = Event()

        def ask(session: AwsSession) -> SessionTicket:
            values = {name: [value] for name, value in parameters.items()}
            client = _client(session)
            found = client.start_session(Target=instance, DocumentName=document, Parameters=values)
            if given_up.is_set():
                # Nobody else knows that it is there.
                client.terminate_session(SessionId=found["SessionId"])
            return _ticket(found)

        def give_up(failure: Failure) -> Failure:
            given_up.set()
            return failure

        return Deferred.fromCoroutine(self._ask(ask, action, instance)).addErrback(give_up)

    def resume(self, session_id: str) -> Deferred[SessionTicket | None]:
        """See L{ISessionSource.resume}."""

        def ask(session: AwsSession) -> SessionTicket | None:
            try:
                found = _client(session).resume_session(SessionId=session_id)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _GONE:
                    return None
                raise
            # Without a token the session has timed out (session-manager-plugin, sessionhandler.go).
            return _ticket(found) if found.get("TokenValue") else None

        return Deferred.fromCoroutine(self._ask(ask, "ssm:ResumeSession", session_id))

    def terminate(self, session_id: str) -> Deferred[None]:
        """See L{ISessionSource.terminate}."""

        def ask(session: AwsSession) -> None:
            _client(session).terminate_session(SessionId=session_id)

        def shrug(failure: Any) -> None:
            # It ends by itself, in a while; at a stop there may be nobody to ask any more.
            _log.debug("a session was not ended: {why}", why=failure.getErrorMessage())

        action = "ssm:TerminateSession"
        return Deferred.fromCoroutine(self._ask(ask, action, session_id)).addErrback(shrug)

    def sign(self, url: str, host: str) -> Deferred[Mapping[str, str]]:
        """See L{ISessionSource.sign}."""

        def signed(session: AwsSession) -> Mapping[str, str]:
            return signature(session, url, host)

        def without(failure: Any) -> Mapping[str, str]:
            failure.trap(DialError)
            _log.warn("the session is opened unsigned: {why}", why=failure.getErrorMessage())
            return {}

        action = "ssmmessages:OpenDataChannel"
        return self._account.run(signed, action, self._seconds).addErrback(without)

    async def _ask(self, ask: Callable[[AwsSession], _T], action: str, whom: str) -> _T:
        """
        Call AWS, and again after a while where it asks to slow down.

        @raise DialError: with the name of whom it was about
        """

        def work(session: AwsSession) -> _T:
            try:
                return ask(session)
            except (ClientError, BotoCoreError) as error:
                if is_passing(error):
                    raise _Passing(DialFailure.BROKEN, told(error, action)) from None
                raise

        end = self._clock.seconds() + self._seconds
        last: DialError | None = None
        for pause in (*_PAUSES, None):
            left = end - self._clock.seconds()
            try:
                return await self._account.run(work, action, max(0.1, left))
            except _Passing as problem:
                wait = 0.0 if pause is None else pause * (0.5 + 0.5 * self._jitter())
                if pause is None or self._clock.seconds() + wait >= end:
                    raise DialError(problem.failure, f"{whom}: {problem.detail}") from None
                last = problem
            except DialError as problem:
                # What AWS said before tells more than that its time is over.
                told_first = last if problem.failure is DialFailure.TIMEOUT else None
                error = told_first or problem
                raise DialError(error.failure, f"{whom}: {error.detail}") from None
            await deferLater(self._clock, wait)
        raise AssertionError("not reached")


def signature(session: AwsSession, url: str, host: str) -> Mapping[str, str]:
    """
    The headers by which a WebSocket's opening is signed; none where its URL is signed already.

    The host is signed as it is sent, with its port. The query is signed as
    AWS's own client does: parsed, and encoded anew; it is sent as it came.

    @raise BotoCoreError: there are no credentials
    """
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if any(name.lower().startswith("x-amz-") for name, _ in pairs):
        return {}
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    scheme = "https" if parts.scheme == "wss" else "http"
    address = urlunsplit((scheme, parts.netloc, parts.path, query, ""))
    request = AWSRequest("GET", address, headers={"Host": host})
    region = session.region() or ""
    SigV4Auth(session.credentials(), _SIGNING_NAME, region).add_auth(request)
    return {name: value for name, value in request.headers.items() if name.lower() != "host"}


def _client(session: AwsSession) -> Any:
    with _making:
        return session.client("ssm")


def _ticket(found: Mapping[str, Any]) -> SessionTicket:
    return SessionTicket(found["SessionId"], found["StreamUrl"], found["TokenValue"])
