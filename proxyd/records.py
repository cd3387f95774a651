"""
What proxyd remembers: the rows of its state store as plain values, and what can go wrong.

Times are Unix seconds, whole. A L{DatabaseId} is what a token's claim
C{database_id} holds: a number is a registered database, a text the name of a
connection of the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, unique

DatabaseId = int | str


class StoreError(Exception):
    """Something that was asked of the store can't be done; the text is for whoever asked."""


class Unknown(StoreError):
    """There is no such database, token, agent or proxy (HTTP 404)."""


class Conflict(StoreError):
    """There is one of this name or id already (HTTP 409)."""


class Invalid(StoreError):
    """What was asked for makes no sense or is not allowed; nothing was changed (HTTP 422)."""


class StoreLost(StoreError):
    """The store does not answer, or not in time: nobody knows whether it was done (HTTP 503)."""


@dataclass(frozen=True, slots=True)
class DatabaseRecord:
    """
    A registered database, which clients know as C{db_<database_id>}.

    @param database_id: never used twice
    @param name: what its owner calls it; unique
    @param dsn: its connection string, without a password
    @param sealed: the password, encrypted; empty: there is none
    """

    database_id: int
    name: str
    dsn: str
    sealed: bytes = field(repr=False)
    created_at: int


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """
    A token that was issued, registered, or (an issuer's) revoked. The token itself is not kept.

    @param token_id: its claim C{token_id}, or an issuer's C{jti}
    @param issuer: empty for tokens of our own secret
    @param digest: the SHA-256 of the token as the client sends it; empty where
        only its id is known, as of an issuer's
    @param database_id: what it opens
    @param label: what its owner calls it
    @param expires_at: from then on it is worthless, and may be forgotten
    @param revoked_at: None: it was not
    """

    token_id: str
    issuer: str
    digest: bytes = field(repr=False)
    database_id: DatabaseId
    label: str
    issued_at: int
    expires_at: int
    revoked_at: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What it is found by: issuers may use the same ids."""
        return (self.issuer, self.token_id)


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """
    A reverse agent that may log in.

    @param digest: the SHA-256 of its token
    """

    client_id: str
    digest: bytes = field(repr=False)
    created_at: int


@dataclass(frozen=True, slots=True)
class ProxyRecord:
    """
    A reverse port that was asked for by the API and is to be there again after a restart.

    @param document: what was asked for, as JSON text; whoever made it reads it
    """

    proxy_id: str
    document: str
    created_at: int


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """
    A proxyd that shares this store.

    @param number: 1 to 1023, unique among the living: cancel keys carry it
    @param name: what it calls itself, unique as long as it runs
    @param address: C{HOST:PORT} where the others reach its PostgreSQL listener
    @param seen_at: when it last said that it lives, by the store's clock
    """

    number: int
    name: str
    address: str
    seen_at: int


@unique
class Kind(Enum):
    """What a L{Change} is about."""

    DATABASE = "database"
    TOKEN = "token"
    AGENT = "agent"
    PROXY = "proxy"
    ALL = "all"


Record = DatabaseRecord | TokenRecord | AgentRecord | ProxyRecord
Key = int | str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """
    Something in the store is different, here or on another node.

    @param kind: L{Kind.ALL}: so much was missed that all is to be read again
    @param key: C{database_id}, (C{issuer}, C{token_id}), C{client_id} or C{proxy_id}
    @param record: as it is now; None: it is gone
    """

    kind: Kind
    key: Key
    record: Record | None


@dataclass(frozen=True, slots=True)
class Grant:
    """
    What a good token allows.

    @param token_id: for the log, and to be revoked by
    @param issuer: empty for our own secret
    @param database_id: what it opens
    @param expires_at: when its sessions end
    @param roles: names that may stand in the URL; C{token} always may
    """

    token_id: str
    issuer: str
    database_id: DatabaseId
    expires_at: float
    roles: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What it is revoked by."""
        return (self.issuer, self.token_id)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """
    A token just made: the only time that it is seen.

    @param connection_string: ready to paste
    """

    token: str = field(repr=False)
    token_id: str
    database_id: DatabaseId
    issued_at: int
    expires_at: int
    connection_string: str = field(repr=False)


@unique
class Refusal(Enum):
    """Why a token does not let in."""

    BAD = "malformed or wrongly signed"
    UNKNOWN = "not issued or registered here"
    EXPIRED = "expired"
    REVOKED = "revoked"
    WRONG_DATABASE = "for another database"
    WRONG_USER = "not for this user name"
    STORE_LOST = "the state store is silent"
    ISSUER_LOST = "its issuer's keys can't be had"


class TokenRefused(Exception):
    """
    A token does not let in.

    @param refusal: which of the known ways
    @param detail: one line for the operator's log, without a byte of the token
    @param good_for: the connection that it would let in, where the token is
        good: its holder may be told that there is none
    """

    def __init__(self, refusal: Refusal, detail: str = "", good_for: str = "") -> None:
        super().__init__(f"{refusal.value}: {detail}" if detail else refusal.value)
        self.refusal = refusal
        self.detail = detail
        self.good_for = good_for
