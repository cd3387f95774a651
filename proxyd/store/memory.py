"""
A store that forgets all with the process: for tests, and for programs that embed proxyd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar, cast

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from proxyd.interfaces import IStore
from proxyd.records import (
    AgentRecord,
    Change,
    Conflict,
    DatabaseId,
    DatabaseRecord,
    Key,
    Kind,
    NodeRecord,
    ProxyRecord,
    Record,
    StoreLost,
    TokenRecord,
    Unknown,
)
from proxyd.store.served import tell_all

K = TypeVar("K")
V = TypeVar("V")

SEEN_AT = 0
"""A node that shares its store with nobody has no use for a clock."""


@implementer(IStore)
class MemoryStore:
    """See L{IStore}."""

    shared = False

    def __init__(self) -> None:
        self._open = False
        self._last_database = 0
        self._databases: dict[int, DatabaseRecord] = {}
        self._tokens: dict[tuple[str, str], TokenRecord] = {}
        self._digests: set[bytes] = set()
        self._agents: dict[str, AgentRecord] = {}
        self._proxies: dict[str, ProxyRecord] = {}
        self._nodes: dict[str, NodeRecord] = {}
        self._watching: list[Callable[[Change], object]] = []

    def open(self) -> Deferred[None]:
        """Nothing is to be opened."""
        self._open = True
        return succeed(None)

    def close(self) -> Deferred[None]:
        """Answer no more."""
        self._open = False
        return succeed(None)

    def silent_for(self) -> float:
        """Never silent."""
        return 0.0

    def watch(self, told: Callable[[Change], object]) -> None:
        """See L{IStore}."""
        self._watching.append(told)

    # Databases

    def databases(self) -> Deferred[list[DatabaseRecord]]:
        """See L{IStore}."""
        return self._all(self._databases)

    def add_database(
        self, name: str, dsn: str, sealed: bytes, now: int
    ) -> Deferred[DatabaseRecord]:
        """See L{IStore}."""
        if any(name == record.name for record in self._databases.values()):
            return fail(Conflict(f'there is a database "{name}" already'))
        record = DatabaseRecord(self._last_database + 1, name, dsn, sealed, now)
        done = self._put(Kind.DATABASE, self._databases, record.database_id, record)
        if record.database_id in self._databases:
            self._last_database += 1
        return done

    def remove_database(self, database_id: int) -> Deferred[None]:
        """See L{IStore}."""
        removed = self._remove(Kind.DATABASE, self._databases, database_id)
        if self._open and database_id not in self._databases:
            for key, token in list(self._tokens.items()):
                if token.database_id == database_id:
                    self._forget_token(key)
        return removed

    # Tokens

    def tokens(self, database_id: DatabaseId | None = None) -> Deferred[list[TokenRecord]]:
        """See L{IStore}."""
        if database_id is None:
            return self._all(self._tokens)
        found = {k: v for k, v in self._tokens.items() if v.database_id == database_id}
        return self._all(found)

    def token(self, issuer: str, token_id: str) -> Deferred[TokenRecord | None]:
        """See L{IStore}."""
        return self._answer(self._tokens.get((issuer, token_id)))

    def add_token(self, record: TokenRecord) -> Deferred[None]:
        """See L{IStore}."""
        database_id = record.database_id
        if isinstance(database_id, int) and database_id not in self._databases:
            return fail(Unknown(f"there is no database {database_id}"))
        if record.key in self._tokens or (record.digest and record.digest in self._digests):
            return fail(Conflict("this token is known already"))
        done = self._put(Kind.TOKEN, self._tokens, record.key, record)
        if record.key in self._tokens:
            self._digests.add(record.digest)
        return done.addCallback(lambda _: None)

    def revoke_token(self, issuer: str, token_id: str, now: int) -> Deferred[TokenRecord]:
        """See L{IStore}."""
        record = self._tokens.get((issuer, token_id))
        if record is None:
            return fail(Unknown(f'there is no token "{token_id}"'))
        if record.revoked_at is not None:
            return self._answer(record)
        return self._put(Kind.TOKEN, self._tokens, record.key, replace(record, revoked_at=now))

    def remove_expired(self, now: int) -> Deferred[int]:
        """See L{IStore}."""
        if not self._open:
            return self._answer(0)
        old = [key for key, record in self._tokens.items() if record.expires_at <= now]
        for key in old:
            self._forget_token(key)
        return self._answer(len(old))

    def _forget_token(self, key: tuple[str, str]) -> None:
        self._digests.discard(self._tokens.pop(key).digest)
        self._tell(Change(Kind.TOKEN, key, None))

    # Agents, proxies, nodes

    def agents(self) -> Deferred[list[AgentRecord]]:
        """See L{IStore}."""
        return self._all(dict(sorted(self._agents.items())))

    def put_agent(self, record: AgentRecord) -> Deferred[None]:
        """See L{IStore}."""
        done = self._put(Kind.AGENT, self._agents, record.client_id, record)
        return done.addCallback(lambda _: None)

    def remove_agent(self, client_id: str) -> Deferred[None]:
        """See L{IStore}."""
        return self._remove(Kind.AGENT, self._agents, client_id)

    def proxies(self) -> Deferred[list[ProxyRecord]]:
        """See L{IStore}."""
        return self._all(self._proxies)

    def add_proxy(self, record: ProxyRecord) -> Deferred[None]:
        """See L{IStore}."""
        if record.proxy_id in self._proxies:
            return fail(Conflict(f'there is a proxy "{record.proxy_id}" already'))
        done = self._put(Kind.PROXY, self._proxies, record.proxy_id, record)
        return done.addCallback(lambda _: None)

    def remove_proxy(self, proxy_id: str) -> Deferred[None]:
        """See L{IStore}."""
        return self._remove(Kind.PROXY, self._proxies, proxy_id)

    def join(self, name: str, address: str) -> Deferred[NodeRecord]:
        """See L{IStore}."""
        there = self._nodes.get(name)
        taken = {node.number for node in self._nodes.values()}
        number = there.number if there else next(n for n in range(1, 1024) if n not in taken)
        record = self._nodes[name] = NodeRecord(number, name, address, SEEN_AT)
        return self._answer(record)

    def leave(self, name: str) -> Deferred[None]:
        """See L{IStore}."""
        self._nodes.pop(name, None)
        return self._answer(None)

    def nodes(self) -> Deferred[list[NodeRecord]]:
        """See L{IStore}."""
        return self._answer(sorted(self._nodes.values(), key=lambda node: node.number))

    # All of them

    def _answer(self, value: V) -> Deferred[V]:
        if not self._open:
            return fail(StoreLost("the store is closed"))
        return succeed(value)

    def _all(self, table: Mapping[K, V]) -> Deferred[list[V]]:
        return self._answer(list(table.values()))

    def _put(self, kind: Kind, table: dict[K, V], key: K, record: V) -> Deferred[V]:
        if self._open:
            table[key] = record
            self._tell(Change(kind, cast("Key", key), cast("Record", record)))
        return self._answer(record)

    def _remove(self, kind: Kind, table: dict[K, V], key: K) -> Deferred[None]:
        if not self._open:
            return self._answer(None)
        if table.pop(key, None) is None:
            return fail(Unknown(f'there is no {kind.value} "{key}"'))
        self._tell(Change(kind, cast("Key", key), None))
        return succeed(None)

    def _tell(self, change: Change) -> None:
        tell_all(self._watching, change)
