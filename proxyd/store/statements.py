"""
Every SQL statement of the store, but those that make its tables (C{schema/}).

Values are named, C{:name}; L{for_psycopg} writes them as psycopg wants them.
"""

from __future__ import annotations

import re

DATABASES = "SELECT database_id, name, dsn, sealed, created_at FROM databases ORDER BY database_id"
DATABASE = (
    "SELECT database_id, name, dsn, sealed, created_at FROM databases WHERE database_id = :id"
)
DATABASE_NAMED = "SELECT 1 FROM databases WHERE name = :name"
ADD_DATABASE = (
    "INSERT INTO databases (name, dsn, sealed, created_at)"
    " VALUES (:name, :dsn, :sealed, :now) RETURNING database_id"
)
REMOVE_DATABASE = "DELETE FROM databases WHERE database_id = :id RETURNING database_id"

_TOKEN = "token_id, issuer, digest, database, label, issued_at, expires_at, revoked_at"
TOKENS = f"SELECT {_TOKEN} FROM tokens ORDER BY position"
TOKENS_OF = f"SELECT {_TOKEN} FROM tokens WHERE database = :database ORDER BY position"
TOKEN = f"SELECT {_TOKEN} FROM tokens WHERE issuer = :issuer AND token_id = :token_id"
TOKEN_TAKEN = (
    "SELECT 1 FROM tokens WHERE (issuer = :issuer AND token_id = :token_id) OR digest = :digest"
)
ADD_TOKEN = (
    f"INSERT INTO tokens ({_TOKEN}) VALUES (:token_id, :issuer, :digest, :database, :label,"
    " :issued_at, :expires_at, :revoked_at)"
)
REVOKE_TOKEN = (
    "UPDATE tokens SET revoked_at = :now"
    " WHERE issuer = :issuer AND token_id = :token_id AND revoked_at IS NULL"
    f" RETURNING {_TOKEN}"
)
REMOVE_TOKENS_OF = "DELETE FROM tokens WHERE database = :database RETURNING issuer, token_id"
REMOVE_EXPIRED = "DELETE FROM tokens WHERE expires_at <= :now RETURNING issuer, token_id"

AGENTS = "SELECT client_id, digest, created_at FROM agents ORDER BY client_id"
AGENT = "SELECT client_id, digest, created_at FROM agents WHERE client_id = :id"
PUT_AGENT = (
    "INSERT INTO agents (client_id, digest, created_at) VALUES (:id, :digest, :created_at)"
    " ON CONFLICT (client_id) DO UPDATE"
    " SET digest = excluded.digest, created_at = excluded.created_at"
)
REMOVE_AGENT = "DELETE FROM agents WHERE client_id = :id RETURNING client_id"

PROXIES = "SELECT proxy_id, document, created_at FROM proxies ORDER BY position"
PROXY = "SELECT proxy_id, document, created_at FROM proxies WHERE proxy_id = :id"
ADD_PROXY = (
    "INSERT INTO proxies (proxy_id, document, created_at) VALUES (:id, :document, :created_at)"
)
REMOVE_PROXY = "DELETE FROM proxies WHERE proxy_id = :id RETURNING proxy_id"

NODES = "SELECT number, name, address, seen_at FROM nodes ORDER BY number"
PUT_NODE = (
    "INSERT INTO nodes (number, name, address, seen_at) VALUES (:number, :name, :address, :now)"
    " ON CONFLICT (name) DO UPDATE SET address = excluded.address, seen_at = excluded.seen_at"
)
REMOVE_NODE = "DELETE FROM nodes WHERE name = :name"
REMOVE_OLD_NODES = "DELETE FROM nodes WHERE seen_at <= :before"

# PostgreSQL alone

NOW = "SELECT extract(epoch FROM clock_timestamp())::bigint"
LOCK_NODES = "LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE"
NEXT_REVISION = "UPDATE state SET revision = revision + 1 RETURNING revision"
REVISION = "SELECT revision, pruned_to FROM state"
NOTE_CHANGE = (
    "INSERT INTO changes (revision, kind, issuer, key) VALUES (:revision, :kind, :issuer, :key)"
)
CHANGES = "SELECT revision, kind, issuer, key FROM changes WHERE revision > :seen ORDER BY revision"
PRUNE = (
    "WITH old AS (DELETE FROM changes WHERE at < now() - interval '1 hour' RETURNING revision)"
    " UPDATE state SET pruned_to = greatest(pruned_to, (SELECT max(revision) FROM old))"
    " WHERE EXISTS (SELECT 1 FROM old)"
)
NOTIFY = "NOTIFY proxyd"
LISTEN = "LISTEN proxyd"
MAKE_PLACE = "CREATE SCHEMA IF NOT EXISTS proxyd"
PLACE = "SELECT to_regclass('proxyd.schema_version') IS NOT NULL"
MAKE_VERSION = "CREATE TABLE proxyd.schema_version (version INTEGER NOT NULL)"
FIRST_VERSION = "INSERT INTO proxyd.schema_version VALUES (0)"
VERSION = "SELECT version FROM proxyd.schema_version"
SET_VERSION = "UPDATE proxyd.schema_version SET version = :version"
# Two nodes that start at once make the tables one after the other.
MIGRATION_LOCK = "SELECT pg_advisory_xact_lock(8130447)"

# SQLite alone

APPLICATION = 0x70787964
"""C{PRAGMA application_id} of a state file: the letters pxyd."""


def for_psycopg(sql: str) -> str:
    """A statement with its values written as psycopg wants them."""
    return re.sub(r"(?<!:):([a-z_]+)", r"%(\1)s", sql)
