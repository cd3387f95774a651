"""What the daemon remembers: the state store, the tokens and the registered databases in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.app.room import Ground, Room
from proxyd.auth.fetch import Fetcher
from proxyd.auth.issued import OwnSecret
from proxyd.auth.tokens import Tokens
from proxyd.config.dsn import SCHEMES
from proxyd.config.model import Config
from proxyd.config.secrets import Secret
from proxyd.config.times import STORE_ANSWER
from proxyd.config.token_settings import STORE_POLL
from proxyd.config.tokens import LEAST_SECRET
from proxyd.errors import StartError
from proxyd.figures import Figure
from proxyd.interfaces import IStore
from proxyd.net.certificates import state_directory
from proxyd.net.clock import WallClock
from proxyd.postgres.registered import Denies, Registered
from proxyd.records import StoreError
from proxyd.store.keys import kept_secret
from proxyd.store.postgres import PostgresStore
from proxyd.store.seal import Seal
from proxyd.store.sqlite import SqliteStore
from proxyd.web.route import Resource

_log = Logger()

_LOOKED_AT = ("the configuration", "env:JWT_SECRET")
"""Where a secret's length was seen, and told of, when the configuration was read."""

TOKEN_AUTHS = frozenset({"token", "oauth"})


class State(Room):
    """
    The store, opened before anything else, and what is kept in it.

    @ivar store: where all is kept
    @ivar tokens: who may log in by a token
    @ivar registered: the databases that were registered at run time
    """

    store: IStore
    tokens: Tokens
    registered: Registered

    def __init__(self, ground: Ground, config: Config) -> None:
        """Nothing is opened or read before L{prepare}."""
        self._ground = ground
        self._config = config
        self._public: Callable[[], str] = lambda: ""
        self._denies: Denies = lambda target: "nobody knows the way to it"
        self._opened = False
        self._store = self._made(config)
        self.store = self._store
        self.tokens = Tokens(
            WallClock(ground.reactor),  # their dates are others' words: the system's hour counts
            self.store,
            OwnSecret(b""),
            config.tokens,
            self._token_connections,
            lambda: self._public(),
            lambda issuer: Fetcher(ground.reactor, issuer),
            ground.reactor,
        )
        self.inner = (_Opened(self._store), self.tokens)

    def announce(self, public: Callable[[], str]) -> None:
        """@param public: gives the C{HOST:PORT} that connection strings name"""
        self._public = public

    def deny_by(self, denies: Denies) -> None:
        """@param denies: says which hosts may not be registered, and why"""
        self._denies = denies

    def prepare(self, config: Config) -> Callable[[], None]:
        """
        At the start the store is opened; at a reload the secrets of tokens are read again.

        @raise StartError: the store can't be opened, or a secret not be read
        """
        secret = self._token_secret(config)
        for issuer in config.tokens.issuers:
            Fetcher(self._ground.reactor, issuer)  # its certificates can be read
        if not self._opened:
            self._open(config)

        def adopt() -> None:
            self._config = config
            self.tokens.adopt(config.tokens, secret)

        return adopt

    def _open(self, config: Config) -> None:
        """Open the store, and learn what is in it."""
        self.registered = Registered(
            WallClock(self._ground.reactor),
            self.store,
            Seal(self._state_key(config)),
            lambda target: self._denies(target),
            config.pool_size,
        )
        _result(self._store.open_now())
        self._opened = True
        _result(self.registered.load())
        _result(self.tokens.load())

    def _token_connections(self) -> list[str]:
        connections = self._config.connections
        return [name for name, one in connections.items() if TOKEN_AUTHS.intersection(one.auth)]

    def _token_secret(self, config: Config) -> OwnSecret:
        given = config.tokens.secret
        if given is None:
            secret = kept_secret(self._directory(config), "jwt.key")
        else:
            secret = _read("tokens.secret", given)
        previous = [_read("tokens.previous_secrets", one) for one in config.tokens.previous]
        return OwnSecret(secret, previous)

    def _state_key(self, config: Config) -> bytes:
        key = config.state.key
        if key is None:
            return kept_secret(self._directory(config), "state.key")
        return _read("state_key", key)

    def _directory(self, config: Config) -> str:
        return state_directory(config.state, self._ground.environment)

    def _made(self, config: Config) -> SqliteStore | PostgresStore:
        """The store that the configuration asks for, not opened."""
        reactor, url = self._ground.reactor, config.state.url or ""
        if url.startswith(SCHEMES):
            return PostgresStore(reactor, url, STORE_ANSWER, STORE_POLL)
        path = os.path.join(self._directory(config), "state.sqlite")
        if url:
            path = os.path.abspath(unquote(urlsplit(url).path))
        return SqliteStore(reactor, path, STORE_ANSWER, WallClock(reactor))

    def resources(self) -> Sequence[Resource]:
        """The calls that manage databases and tokens."""
        from proxyd.web.resources.databases import Databases
        from proxyd.web.resources.tokens import TokensResource

        # Registered databases are known once the store is open.
        return (
            Databases(lambda: self.registered),
            TokensResource(self.tokens, self._ground.reactor),
        )

    def figures(self) -> Iterator[Figure]:
        """Whether this node hears of what others change."""
        if self._store.shared:
            about = "For how long the shared store has said nothing"
            yield Figure("state_silent_seconds", about, self._store.silent_for())

    def fixed(self, config: Config) -> Mapping[str, object]:
        """Where the state is kept."""
        return {"state": config.state}


class _Opened(Service):
    """The store as a service: it goes on in its thread while the reactor runs."""

    name = "store"

    def __init__(self, store: SqliteStore | PostgresStore) -> None:
        self._store = store

    def startService(self) -> None:
        """Answer from a thread from now on."""
        super().startService()  # type: ignore[no-untyped-call]
        self._store.start()

    def stopService(self) -> Deferred[None]:
        """Finish what was asked for, and close."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self._store.close()


def _result(done: Deferred[None]) -> None:
    """
    What was done at once.

    @raise StartError: it failed
    """
    failures: list[Failure] = []
    done.addErrback(failures.append)
    for failure in failures:
        if isinstance(failure.value, StoreError):
            raise StartError(f"state: {failure.value}") from None
        failure.raiseException()


def _read(key: str, secret: Secret) -> bytes:
    """
    A secret that something is signed or encrypted with.

    @raise StartError: it can't be read, or is empty, as everybody could then sign and decrypt
    """
    text = secret.read().encode("utf-8", "surrogateescape")
    if not text.strip():
        raise StartError(f"{key}: {secret.place} is empty")
    if len(text) < LEAST_SECRET and secret.place not in _LOOKED_AT:
        _log.warn(
            "{key}: {place} has fewer than {least} bytes, so it could be guessed",
            key=key,
            place=secret.place,
            least=LEAST_SECRET,
        )
    return text
