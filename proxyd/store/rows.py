"""
What the store does, as statements in one transaction: the same for SQLite and PostgreSQL.

Runs in a thread of the store's, never in the reactor's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
    TokenRecord,
    Unknown,
)
from proxyd.store import statements as sql

Row = Sequence[Any]
Run = Callable[[str, Mapping[str, object]], list[Row]]
"""Runs one statement with its values, and gives its rows."""

LAST_NODE = 1023
_FORGOTTEN = 60
_MOST = 2**63 - 1


class Rows:
    """
    One transaction.

    @ivar changes: what it has changed
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.changes: list[Change] = []

    # Databases

    def databases(self) -> list[DatabaseRecord]:
        """All of them."""
        return [DatabaseRecord(*row) for row in self._run(sql.DATABASES, {})]

    def database(self, database_id: int) -> DatabaseRecord | None:
        """One."""
        if not 0 < database_id <= _MOST:
            return None
        rows = self._run(sql.DATABASE, {"id": database_id})
        return DatabaseRecord(*rows[0]) if rows else None

    def add_database(self, name: str, dsn: str, sealed: bytes, now: int) -> DatabaseRecord:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        if self._run(sql.DATABASE_NAMED, {"name": name}):
            raise Conflict(f'there is a database "{name}" already')
        values = {"name": name, "dsn": dsn, "sealed": sealed, "now": now}
        [[database_id]] = self._run(sql.ADD_DATABASE, values)
        record = DatabaseRecord(database_id, name, dsn, sealed, now)
        self._changed(Kind.DATABASE, database_id, record)
        return record

    def remove_database(self, database_id: int) -> None:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        if self.database(database_id) is None:
            raise Unknown(f"there is no database {database_id}")
        self._run(sql.REMOVE_DATABASE, {"id": database_id})
        self._changed(Kind.DATABASE, database_id, None)
        self._tokens_gone(sql.REMOVE_TOKENS_OF, {"database": json.dumps(database_id)})

    # Tokens

    def tokens(self, database_id: DatabaseId | None = None) -> list[TokenRecord]:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        if database_id is None:
            rows = self._run(sql.TOKENS, {})
        else:
            rows = self._run(sql.TOKENS_OF, {"database": json.dumps(database_id)})
        return [_token(row) for row in rows]

    def token(self, issuer: str, token_id: str) -> TokenRecord | None:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        rows = self._run(sql.TOKEN, {"issuer": issuer, "token_id": token_id})
        return _token(rows[0]) if rows else None

    def add_token(self, record: TokenRecord) -> None:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        database_id = record.database_id
        if isinstance(database_id, int) and self.database(database_id) is None:
            raise Unknown(f"there is no database {database_id}")
        values = {
            "issuer": record.issuer,
            "token_id": record.token_id,
            "digest": record.digest or None,
            "database": json.dumps(database_id),
            "label": record.label,
            "issued_at": record.issued_at,
            "expires_at": record.expires_at,
            "revoked_at": record.revoked_at,
        }
        if self._run(sql.TOKEN_TAKEN, {name: values[name] for name in _TAKEN}):
            raise Conflict("this token is known already")
        self._run(sql.ADD_TOKEN, values)
        self._changed(Kind.TOKEN, record.key, record)

    def revoke_token(self, issuer: str, token_id: str, now: int) -> TokenRecord:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        values = {"issuer": issuer, "token_id": token_id, "now": now}
        rows = self._run(sql.REVOKE_TOKEN, values)
        if rows:
            record = _token(rows[0])
            self._changed(Kind.TOKEN, record.key, record)
            return record
        known = self.token(issuer, token_id)
        if known is None:
            raise Unknown(f'there is no token "{token_id}"')
        return known

    def remove_expired(self, now: int) -> int:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        return self._tokens_gone(sql.REMOVE_EXPIRED, {"now": now})

    def _tokens_gone(self, statement: str, values: Mapping[str, object]) -> int:
        gone = self._run(statement, values)
        for issuer, token_id in gone:
            self._changed(Kind.TOKEN, (issuer, token_id), None)
        return len(gone)

    # Agents and proxies

    def agents(self) -> list[AgentRecord]:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        return [AgentRecord(*row) for row in self._run(sql.AGENTS, {})]

    def put_agent(self, record: AgentRecord) -> None:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        values = {"id": record.client_id, "digest": record.digest, "created_at": record.created_at}
        self._run(sql.PUT_AGENT, values)
        self._changed(Kind.AGENT, record.client_id, record)

    def remove_agent(self, client_id: str) -> None:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        if not self._run(sql.REMOVE_AGENT, {"id": client_id}):
            raise Unknown(f'there is no agent "{client_id}"')
        self._changed(Kind.AGENT, client_id, None)

    def proxies(self) -> list[ProxyRecord]:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        return [ProxyRecord(*row) for row in self._run(sql.PROXIES, {})]

    def add_proxy(self, record: ProxyRecord) -> None:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        if self._run(sql.PROXY, {"id": record.proxy_id}):
            raise Conflict(f'there is a proxy "{record.proxy_id}" already')
        values = {
            "id": record.proxy_id,
            "document": record.document,
            "created_at": record.created_at,
        }
        self._run(sql.ADD_PROXY, values)
        self._changed(Kind.PROXY, record.proxy_id, record)

    def remove_proxy(self, proxy_id: str) -> None:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        if not self._run(sql.REMOVE_PROXY, {"id": proxy_id}):
            raise Unknown(f'there is no proxy "{proxy_id}"')
        self._changed(Kind.PROXY, proxy_id, None)

    # Nodes

    def nodes(self, now: int) -> list[NodeRecord]:
        """Those that live."""
        found = [NodeRecord(*row) for row in self._run(sql.NODES, {})]
        return [node for node in found if node.seen_at > now - _FORGOTTEN]

    def join(self, name: str, address: str, now: int) -> NodeRecord:
        """See L{IStore<proxyd.interfaces.IStore>}; whoever calls keeps others out meanwhile."""
        self._run(sql.REMOVE_OLD_NODES, {"before": now - _FORGOTTEN})
        nodes = self.nodes(now)
        there = next((node for node in nodes if node.name == name), None)
        taken = {node.number for node in nodes}
        free = (number for number in range(1, LAST_NODE + 1) if number not in taken)
        number = there.number if there else next(free, 0)
        if not number:
            raise Conflict(f"{LAST_NODE} nodes share this store already")
        self._run(sql.PUT_NODE, {"number": number, "name": name, "address": address, "now": now})
        return NodeRecord(number, name, address, now)

    def leave(self, name: str) -> None:
        """See L{IStore<proxyd.interfaces.IStore>}."""
        self._run(sql.REMOVE_NODE, {"name": name})

    # Changes

    def current(self, kind: Kind, issuer: str, key: str) -> Change:
        """What is so now of something that has changed."""
        if kind is Kind.DATABASE:
            return Change(kind, int(key), self.database(int(key)))
        if kind is Kind.TOKEN:
            return Change(kind, (issuer, key), self.token(issuer, key))
        statement, record = {
            Kind.AGENT: (sql.AGENT, AgentRecord),
            Kind.PROXY: (sql.PROXY, ProxyRecord),
        }[kind]
        rows = self._run(statement, {"id": key})
        return Change(kind, key, record(*rows[0]) if rows else None)

    def _changed(self, kind: Kind, key: Key, record: Record | None) -> None:
        self.changes.append(Change(kind, key, record))


_TAKEN = ("issuer", "token_id", "digest")


def _token(row: Row) -> TokenRecord:
    token_id, issuer, digest, database, label, issued_at, expires_at, revoked_at = row
    return TokenRecord(
        token_id,
        issuer,
        digest or b"",
        json.loads(database),
        label,
        issued_at,
        expires_at,
        revoked_at,
    )
