"""
Tokens: issued, registered, listed, revoked, and checked at every connect.

What is known of them is in memory, fed by the store; so a login waits for the
store only where a token is well signed and not known yet, as one is that
another node has just issued.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd import connection_string
from proxyd.auth.fetch import Fetcher
from proxyd.auth.issued import (
    ALGORITHM,
    TYPE,
    OwnSecret,
    begins_at,
    digest_of,
    grant_of,
    new_token_id,
)
from proxyd.auth.issuers import Issuers
from proxyd.auth.jwks import Fetch
from proxyd.auth.jws import looks_like_token, read_token
from proxyd.auth.memory import TokenMemory
from proxyd.config.times import STORE_WATCH, TOKENS_FORGOTTEN
from proxyd.config.token_settings import Issuer, KeyTimes, TokenSettings
from proxyd.interfaces import IRevocable, IStore, ITokens
from proxyd.records import (
    Change,
    Conflict,
    DatabaseId,
    Grant,
    Invalid,
    IssuedToken,
    Kind,
    Refusal,
    StoreError,
    TokenRecord,
    TokenRefused,
    Unknown,
)

_log = Logger()

LONGEST_TTL = 100 * 365 * 86400
"""Seconds of the longest life a token can be given."""

LONGEST_LABEL = 200


@implementer(ITokens)
class Tokens(Service):
    """
    All there is to do with tokens.

    @ivar settings: how tokens are treated; see L{adopt}
    @ivar secret: what our own tokens are signed with
    @ivar issuers: the others whose tokens let in
    """

    name = "tokens"

    def __init__(
        self,
        clock: IReactorTime,
        store: IStore,
        secret: OwnSecret,
        settings: TokenSettings,
        connections: Callable[[], Collection[str]],
        public: Callable[[], str] = lambda: "127.0.0.1:6432",
        fetch_of: Callable[[Issuer], Fetch] | None = None,
        steady: IReactorTime | None = None,
    ) -> None:
        """
        @param clock: tells the hour: tokens have dates
        @param connections: the names of the configuration's connections that
            take tokens, as they are now
        @param public: C{HOST:PORT} that connection strings name
        @param fetch_of: gives what fetches an issuer's keys; None: C{clock} is
            a whole reactor, and they are fetched by it
        @param steady: measures how old an issuer's keys are; None: as C{clock} does
        """
        self.settings = settings
        self._clock = clock
        self._store = store
        self.secret = secret
        self._public = public
        self._connections = connections
        fetch_of = fetch_of or (lambda issuer: Fetcher(clock, issuer))
        self.issuers = Issuers(clock, fetch_of, steady=steady)
        self.issuers.adopt(settings.issuers)
        self._memory = TokenMemory(clock)
        self._cleaning = LoopingCall(self._clean)
        self._cleaning.clock = clock
        self._watching = LoopingCall(self._watch_store)
        self._watching.clock = clock
        self._ended_all = False

    def adopt(self, settings: TokenSettings, secret: OwnSecret) -> None:
        """
        Treat tokens so from now on; those that are in stay in.

        @raise StartError: an issuer's certificates can't be read; nothing is changed
        """
        self.issuers.adopt(settings.issuers)
        self.settings, self.secret = settings, secret

    # Service

    def load(self) -> Deferred[None]:
        """
        Learn what the store knows: before the first login, and after the store was opened.

        Fails with a L{StoreError}.
        """

        def know(records: list[TokenRecord]) -> None:
            self._memory.replace(records)

        self._store.watch(self._changed)
        return self._store.tokens().addCallback(know)

    def startService(self) -> None:
        """Begin to forget expired tokens, and to watch for a silent store."""
        super().startService()  # type: ignore[no-untyped-call]
        self._cleaning.start(TOKENS_FORGOTTEN, now=True).addErrback(
            lambda failure: _log.failure("the cleaning of tokens stopped", failure)
        )
        if self._store.shared:
            self._watching.start(STORE_WATCH, now=False).addErrback(
                lambda failure: _log.failure("the watch over the store stopped", failure)
            )

    def stopService(self) -> None:
        """Stop the clocks."""
        for clock in (self._cleaning, self._watching):
            if clock.running:
                clock.stop()
        self._memory.stop()
        self.issuers.stop()
        super().stopService()  # type: ignore[no-untyped-call]

    # For whoever manages tokens

    def issue(
        self,
        database_id: DatabaseId,
        ttl: float | None = None,
        label: str = "",
        roles: Collection[str] = (),
    ) -> Deferred[IssuedToken]:
        """
        Make a token.

        @param database_id: the number of a registered database, or the name of a
            connection that takes tokens
        @param ttl: seconds; None: as the configuration says
        @param roles: names that may stand in the URL beside C{token}
        @return: fails with C{Unknown} (no such database), C{Invalid} (no such
            time, label or name) or C{StoreLost}
        """
        return Deferred.fromCoroutine(self._issue(database_id, ttl, label, roles))

    def register(self, token: str, label: str = "") -> Deferred[TokenRecord]:
        """
        Take a token that was made elsewhere with our secret.

        Fails with C{Invalid} (not of our secret, or expired), C{Conflict} (known
        already), C{Unknown} (no such database) or C{StoreLost}.
        """
        return Deferred.fromCoroutine(self._register(token, label))

    def listed(self, database_id: DatabaseId | None = None) -> Deferred[list[TokenRecord]]:
        """All tokens, or those of one database; fails with C{StoreLost}."""
        return self._store.tokens(database_id)

    def revoke(self, token_id: str, issuer: str = "") -> Deferred[TokenRecord]:
        """
        Revoke a token: nobody logs in with it any more, and its sessions end.

        @param issuer: whose it is, where it is not ours; such a token need not be
            known, its issuer must be
        @return: fails with C{Unknown} or C{StoreLost}
        """
        return Deferred.fromCoroutine(self._revoke(token_id, issuer))

    def cleanup(self) -> Deferred[int]:
        """Forget expired tokens, and say how many; fails with C{StoreLost}."""
        return self._store.remove_expired(self._now())

    def connection_string(self, token: str, database_id: DatabaseId) -> str:
        """What a client pastes."""
        host, _, port = self._public().rpartition(":")
        return connection_string(token, database_id, host.strip("[]"), int(port))

    async def _issue(
        self, database_id: DatabaseId, ttl: float | None, label: str, roles: Collection[str]
    ) -> IssuedToken:
        seconds = self.settings.ttl if ttl is None else ttl
        if not 1 <= seconds <= LONGEST_TTL:
            raise Invalid("ttl: from one second to a hundred years")
        self._check_label(label)
        if not all(0 < len(role) <= 63 for role in roles):
            raise Invalid("roles: each a name of 1 to 63 characters")
        self._check_connection(database_id)
        issued_at = self._now()
        expires_at = issued_at + int(seconds)
        token_id = new_token_id()
        claims: dict[str, object] = {
            "database_id": database_id,
            "token_id": token_id,
            "type": TYPE,
            "iat": issued_at,
            "exp": expires_at,
        }
        if roles:
            claims["roles"] = sorted(set(roles))
        token = self.secret.sign(claims)
        digest = digest_of(token.encode())
        record = TokenRecord(token_id, "", digest, database_id, label, issued_at, expires_at)
        await self._store.add_token(record)
        _log.info("token {token_id} issued for {database}", token_id=token_id, database=database_id)
        text = self.connection_string(token, database_id)
        return IssuedToken(token, token_id, database_id, issued_at, expires_at, text)

    async def _register(self, token: str, label: str) -> TokenRecord:
        self._check_label(label)
        raw = token.encode("utf-8", "surrogateescape")
        try:
            signed = read_token(raw)
            self.secret.verify(signed)
            grant = grant_of(signed.claims)
        except TokenRefused as refused:
            raise Invalid(f"token: {refused}") from None
        now = self._now()
        if grant.expires_at <= now:
            raise Invalid("token: it has expired")
        self._check_connection(grant.database_id)
        record = TokenRecord(
            grant.token_id,
            "",
            digest_of(raw),
            grant.database_id,
            label,
            now,
            int(grant.expires_at),
        )
        await self._store.add_token(record)
        _log.info("token {token_id} registered", token_id=grant.token_id)
        return record

    async def _revoke(self, token_id: str, issuer: str) -> TokenRecord:
        try:
            record = await self._store.revoke_token(issuer, token_id, self._now())
        except Unknown:
            if not issuer:
                raise
            believed = any(one.issuer == issuer for one in self.settings.issuers)
            if not believed and not self._memory.has((issuer, token_id)):
                # With a slash too many it would be revoked in vain.
                raise Unknown(f'"{issuer}" is none of tokens.issuers') from None
            try:
                record = await self._revoke_unseen(token_id, issuer)
            except Conflict:
                # Somebody else has just done the same.
                record = await self._store.revoke_token(issuer, token_id, self._now())
        _log.info("token {token_id} revoked", token_id=token_id)
        return record

    async def _revoke_unseen(self, token_id: str, issuer: str) -> TokenRecord:
        """Remember that an issuer's token is revoked: when it ends is not known."""
        now = self._now()
        record = TokenRecord(token_id, issuer, b"", "", "", now, now + LONGEST_TTL, now)
        await self._store.add_token(record)
        return record

    def _check_label(self, label: str) -> None:
        if len(label) > LONGEST_LABEL or not label.isprintable():
            raise Invalid(f"label: at most {LONGEST_LABEL} printable characters")

    def _check_connection(self, database_id: DatabaseId) -> None:
        """Registered databases are looked at by the store."""
        if isinstance(database_id, str) and database_id not in self._connections():
            raise Unknown(f'there is no connection "{database_id}" that takes tokens')

    # For whoever lets clients in

    def looks_like_token(self, password: bytes) -> bool:
        """See L{ITokens}."""
        return looks_like_token(password)

    def discovery(self) -> str:
        """See L{ITokens}; of the first issuer (OpenID Connect Discovery 1.0, section 4)."""
        issuers = self.settings.issuers
        if not issuers:
            return ""
        return issuers[0].issuer.rstrip("/") + "/.well-known/openid-configuration"

    def check(self, token: bytes) -> Deferred[Grant]:
        """See L{ITokens}."""
        return Deferred.fromCoroutine(self._check(token))

    def attach(self, grant: Grant, session: IRevocable) -> None:
        """See L{ITokens}."""
        self._memory.attach(grant, session)

    def detach(self, grant: Grant, session: IRevocable) -> None:
        """See L{ITokens}."""
        self._memory.detach(grant, session)

    async def _check(self, token: bytes) -> Grant:
        signed = read_token(token)
        ours = signed.algorithm == ALGORITHM
        if ours:
            self.secret.verify(signed)
            grant = grant_of(signed.claims)
            if grant.expires_at <= self._clock.seconds():
                # Whether it has been forgotten meanwhile makes no difference to who has it.
                raise TokenRefused(Refusal.EXPIRED, grant.token_id)
            if begins_at(signed.claims) > self._clock.seconds() + KeyTimes().skew:
                raise TokenRefused(Refusal.BAD, "its time has not come yet (nbf)")
        else:
            grant = await self.issuers.check(signed, token)
        if self._store_lost and self.settings.when_store_lost != "keep":
            raise TokenRefused(Refusal.STORE_LOST)
        if not ours:
            self._memory.look(grant)
            return grant
        digest = digest_of(token)
        record = self._memory.by_digest(digest) or await self._ask(grant)
        if record is None or record.digest != digest:
            raise TokenRefused(Refusal.UNKNOWN, grant.token_id)
        grant = replace(grant, expires_at=min(grant.expires_at, record.expires_at))
        self._memory.look(grant)
        return grant

    async def _ask(self, grant: Grant) -> TokenRecord | None:
        """Ask a shared store for a token that this node has not heard of."""
        if not self._store.shared:
            return None
        try:
            record = await self._store.token(grant.issuer, grant.token_id)
        except StoreError as error:
            raise TokenRefused(Refusal.STORE_LOST, str(error)) from None
        if record is not None:
            self._memory.changed(Change(Kind.TOKEN, record.key, record))
        return record

    # What the store says

    def _changed(self, change: Change) -> Deferred[None] | None:
        if change.kind is Kind.ALL:
            return self._store.tokens().addCallback(self._memory.replace)
        if change.kind is Kind.TOKEN:
            self._memory.changed(change)
        return None

    @property
    def _store_lost(self) -> bool:
        return self._store.shared and self._store.silent_for() > self.settings.max_staleness

    def _watch_store(self) -> None:
        """End the sessions of a node that may not know who was revoked, if that is asked for."""
        if not self._store_lost:
            self._ended_all = False
        elif self.settings.when_store_lost == "end_sessions" and not self._ended_all:
            self._ended_all = True
            self._memory.end_all("the state store is silent")

    def _clean(self) -> Deferred[None]:
        def kept(failure: Failure) -> None:
            # They let nobody in, and the next hour is as good.
            _log.warn("expired tokens could not be forgotten: {reason}", reason=str(failure.value))

        return self.cleanup().addCallbacks(lambda _: None, kept)

    def _now(self) -> int:
        return int(self._clock.seconds())
