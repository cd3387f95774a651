"""
What SQLite and PostgreSQL have in common: each call is one transaction in the store's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from proxyd.interfaces import IStore
from proxyd.records import (
    AgentRecord,
    Change,
    DatabaseId,
    DatabaseRecord,
    NodeRecord,
    ProxyRecord,
    TokenRecord,
)
from proxyd.store.rows import Rows

T = TypeVar("T")

_log = Logger()


def tell_all(watching: Sequence[Callable[[Change], object]], change: Change) -> None:
    """Tell everybody of a change; one who has a bug keeps it from nobody else."""
    for told in watching:
        try:
            told(change)
        except Exception:
            _log.failure("a change of the state was not followed")


@implementer(IStore)
class ServedStore:
    """
    An L{IStore} but for opening, closing and transactions.
    """

    shared = False

    def __init__(self) -> None:
        self._watching: list[Callable[[Change], object]] = []

    def open(self) -> Deferred[None]:
        """See L{IStore}."""
        raise NotImplementedError

    def close(self) -> Deferred[None]:
        """See L{IStore}."""
        raise NotImplementedError

    def silent_for(self) -> float:
        """See L{IStore}."""
        return 0.0

    def read(self, work: Callable[[Rows], T]) -> Deferred[T]:
        """Have something read in the thread."""
        raise NotImplementedError

    def write(self, work: Callable[[Rows], T]) -> Deferred[T]:
        """Have something changed in the thread, tell of it, and then answer."""
        raise NotImplementedError

    def watch(self, told: Callable[[Change], object]) -> None:
        """See L{IStore}."""
        self._watching.append(told)

    def tell(self, changes: Sequence[Change]) -> None:
        """Tell of changes, in the reactor's thread."""
        for change in changes:
            tell_all(self._watching, change)

    def databases(self) -> Deferred[list[DatabaseRecord]]:
        """See L{IStore}."""
        return self.read(lambda rows: rows.databases())

    def add_database(
        self, name: str, dsn: str, sealed: bytes, now: int
    ) -> Deferred[DatabaseRecord]:
        """See L{IStore}."""
        return self.write(lambda rows: rows.add_database(name, dsn, sealed, now))

    def remove_database(self, database_id: int) -> Deferred[None]:
        """See L{IStore}."""
        return self.write(lambda rows: rows.remove_database(database_id))

    def tokens(self, database_id: DatabaseId | None = None) -> Deferred[list[TokenRecord]]:
        """See L{IStore}."""
        return self.read(lambda rows: rows.tokens(database_id))

    def token(self, issuer: str, token_id: str) -> Deferred[TokenRecord | None]:
        """See L{IStore}."""
        return self.read(lambda rows: rows.token(issuer, token_id))

    def add_token(self, record: TokenRecord) -> Deferred[None]:
        """See L{IStore}."""
        return self.write(lambda rows: rows.add_token(record))

    def revoke_token(self, issuer: str, token_id: str, now: int) -> Deferred[TokenRecord]:
        """See L{IStore}."""
        return self.write(lambda rows: rows.revoke_token(issuer, token_id, now))

    def remove_expired(self, now: int) -> Deferred[int]:
        """See L{IStore}."""
        return self.write(lambda rows: rows.remove_expired(now))

    def agents(self) -> Deferred[list[AgentRecord]]:
        """See L{IStore}."""
        return self.read(lambda rows: rows.agents())

    def put_agent(self, record: AgentRecord) -> Deferred[None]:
        """See L{IStore}."""
        return self.write(lambda rows: rows.put_agent(record))

    def remove_agent(self, client_id: str) -> Deferred[None]:
        """See L{IStore}."""
        return self.write(lambda rows: rows.remove_agent(client_id))

    def proxies(self) -> Deferred[list[ProxyRecord]]:
        """See L{IStore}."""
        return self.read(lambda rows: rows.proxies())

    def add_proxy(self, record: ProxyRecord) -> Deferred[None]:
        """See L{IStore}."""
        return self.write(lambda rows: rows.add_proxy(record))

    def remove_proxy(self, proxy_id: str) -> Deferred[None]:
        """See L{IStore}."""
        return self.write(lambda rows: rows.remove_proxy(proxy_id))

    def join(self, name: str, address: str) -> Deferred[NodeRecord]:
        """See L{IStore}."""
        raise NotImplementedError

    def leave(self, name: str) -> Deferred[None]:
        """See L{IStore}."""
        return self.write(lambda rows: rows.leave(name))

    def nodes(self) -> Deferred[list[NodeRecord]]:
        """See L{IStore}."""
        raise NotImplementedError
