"""
An issuer's keys as they are now: fetched when they are needed, kept while the issuer is down.

A token with an unknown C{kid} may be of a key that is new, so the keys are
fetched again; but not more often than once in a while, whatever tokens come.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from proxyd.auth.jwk import VerifyingKey, key_for, read_keys
from proxyd.auth.jws import Signed
from proxyd.config.token_settings import Issuer, KeyTimes
from proxyd.net.tasks import spawn
from proxyd.records import Refusal, TokenRefused

_log = Logger()

Fetch = Callable[[], Deferred[bytes]]
"""Fetches the document; fails when it can't be had in time."""


class KeySet:
    """The keys of one issuer."""

    def __init__(self, clock: IReactorTime, issuer: Issuer, fetch: Fetch, times: KeyTimes) -> None:
        self._clock = clock
        self._issuer = issuer
        self._fetch = fetch
        self._times = times
        self._keys: tuple[VerifyingKey, ...] = ()
        self._good_until = 0.0
        self._not_before = 0.0
        self._fetching: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    async def verify(self, token: Signed) -> None:
        """
        Done when one of the issuer's keys signed a token.

        @raise TokenRefused: none did, or the keys can't be had
        """
        key = self._find(token)
        if key is None or self._clock.seconds() >= self._good_until:
            if key is None or not self._keys:
                await self._refreshed()
                key = self._find(token)
            else:
                self._begin()  # this login need not wait: its key is known
        if key is None and not self._keys:
            raise TokenRefused(Refusal.ISSUER_LOST, self._issuer.issuer)
        if key is None or not key.verifies(token):
            raise TokenRefused(Refusal.BAD, f"signed with no key of {self._issuer.issuer}")

    def stop(self) -> None:
        """Fetch no more."""
        if self._fetching is not None:
            self._fetching.cancel()

    def _find(self, token: Signed) -> VerifyingKey | None:
        return key_for(token, self._keys, self._issuer.algorithms)

    def _refreshed(self) -> Deferred[None]:
        """Fires when the keys were fetched again, or that failed, or it is too soon."""
        self._begin()
        waiter: Deferred[None] = Deferred(self._waiting.remove)
        if self._fetching is None:
            waiter.callback(None)
        else:
            self._waiting.append(waiter)
        return waiter

    def _begin(self) -> None:
        """Fetch the keys, unless that is under way or was done just now."""
        now = self._clock.seconds()
        if self._fetching is not None or now < self._not_before:
            return
        self._not_before = now + self._times.pause
        self._fetching = spawn(self._get(), _log, "fetching an issuer's keys")
        self._fetching.addCallback(lambda _: self._fetched())

    async def _get(self) -> None:
        try:
            keys = read_keys(await self._fetch())
        except CancelledError:
            raise
        except Exception as error:
            # Whatever is wrong with an issuer, the keys that are known go on.
            _log.warn(
                "the keys of issuer {issuer} could not be fetched from {url}: {reason}; "
                "{left} known ones are used",
                issuer=self._issuer.issuer,
                url=self._issuer.jwks_url,
                reason=str(error) or type(error).__name__,
                left=len(self._keys),
            )
            return
        if not keys:
            _log.warn("issuer {issuer} publishes no key of use", issuer=self._issuer.issuer)
            return
        self._keys = keys
        self._good_until = self._clock.seconds() + self._times.kept

    def _fetched(self) -> None:
        self._fetching = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)
