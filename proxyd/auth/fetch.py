"""
Fetching one small document from an issuer: by Twisted's agent, with a deadline and a limit.

It goes straight there, never by the routes, follows no redirect, and believes
the system's certificates or those of one file.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS, IResponse
from zope.interface import implementer

from proxyd.config.token_settings import Issuer, KeyTimes
from proxyd.errors import StartError

LARGEST = 256 * 1024
"""Bytes of the largest document that is taken."""


class NotFetched(Exception):
    """The document can't be had; the text says why."""


class Fetcher:
    """Fetches an issuer's keys."""

    def __init__(self, reactor: Any, issuer: Issuer, times: KeyTimes | None = None) -> None:
        """@raise StartError: its file of certificates can't be read"""
        times = KeyTimes() if times is None else times
        self._reactor = reactor
        self._url = issuer.jwks_url.encode("ascii", "strict")
        self._seconds = times.fetch
        policy = _Trusting(issuer.ca)
        self._agent = Agent(  # type: ignore[no-untyped-call]
            reactor, policy, connectTimeout=times.fetch
        )

    def __call__(self) -> Deferred[bytes]:
        """The document; fails when it is not there in time, too large, or not found."""
        fetching = Deferred.fromCoroutine(self._fetch())
        return fetching.addTimeout(self._seconds, self._reactor, self._too_late)

    def _too_late(self, result: object, seconds: float) -> Failure:
        return Failure(NotFetched(f"no answer within {seconds:g} s"))  # type: ignore[no-untyped-call]

    async def _fetch(self) -> bytes:
        headers = Headers({b"Accept": [b"application/json"], b"User-Agent": [b"proxyd"]})
        try:
            response = await self._agent.request(b"GET", self._url, headers)
        except CancelledError:
            raise
        except (RequestTransmissionFailed, ResponseFailed) as error:
            raise NotFetched("; ".join(str(one.value) for one in error.reasons)) from None
        except Exception as error:
            raise NotFetched(str(error) or type(error).__name__) from None
        if response.code != 200:
            unread = _body(response)
            unread.addErrback(lambda _: None)
            unread.cancel()
            raise NotFetched(f"the answer was {response.code}")
        return await _body(response)


def _body(response: IResponse) -> Deferred[bytes]:
    reader = _Body()
    response.deliverBody(reader)  # type: ignore[no-untyped-call]
    return reader.done


class _Body(Protocol):
    """The body of an answer, up to L{LARGEST} bytes."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(self._cancelled)
        self._parts: list[bytes] = []
        self._left = LARGEST

    def dataReceived(self, data: bytes) -> None:
        """Keep it, or give up."""
        self._left -= len(data)
        if self._left < 0:
            self._give_up(NotFetched(f"it has more than {LARGEST} bytes"))
        else:
            self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """All of it is here, or it broke off."""
        if self.done.called:
            return
        if reason.check(ResponseDone):  # type: ignore[no-untyped-call]
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(NotFetched("it broke off"))

    def _give_up(self, error: NotFetched) -> None:
        if not self.done.called:
            self.done.errback(error)
        self._cut()

    def _cancelled(self, done: Deferred[bytes]) -> None:
        self._cut()

    def _cut(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()


@implementer(IPolicyForHTTPS)
class _Trusting:
    """Verifies the server's name and certificate."""

    def __init__(self, ca: str | None) -> None:
        self._root: Any = None
        if ca is None:
            return
        try:
            with open(ca, "rb") as file:
                text = file.read()
            certificates = [
                Certificate.loadPEM(b"-----BEGIN CERTIFICATE-----" + part)
                for part in text.split(b"-----BEGIN CERTIFICATE-----")[1:]
            ]
        except Exception as error:
            reason = getattr(error, "strerror", None) or "it holds no certificate"
            raise StartError(f"certificates {ca}: {reason}") from None
        if not certificates:
            raise StartError(f"certificates {ca}: it holds no certificate")
        self._root = trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """How TLS is spoken to this host."""
        name = hostname.decode("ascii")
        creator: IOpenSSLClientConnectionCreator
        creator = optionsForClientTLS(name, trustRoot=self._root)
        return creator
