-- The first form of the state file. Never changed: what comes later has a number of its own.

CREATE TABLE databases (
    database_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL UNIQUE,
    dsn         TEXT NOT NULL,
    sealed      BLOB NOT NULL,
    created_at  INTEGER NOT NULL
);

-- database: JSON, a number for a registered database, a text for a connection of the configuration.
CREATE TABLE tokens (
    position   INTEGER PRIMARY KEY AUTOINCREMENT,
    issuer     TEXT NOT NULL,
    token_id   TEXT NOT NULL,
    digest     BLOB UNIQUE,
    database   TEXT NOT NULL,
    label      TEXT NOT NULL,
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    UNIQUE (issuer, token_id)
);
CREATE INDEX tokens_expires_at ON tokens (expires_at);
CREATE INDEX tokens_database ON tokens (database);

CREATE TABLE agents (
    client_id  TEXT PRIMARY KEY,
    digest     BLOB NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE proxies (
    position   INTEGER PRIMARY KEY AUTOINCREMENT,
    proxy_id   TEXT NOT NULL UNIQUE,
    document   TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE nodes (
    number  INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    seen_at INTEGER NOT NULL
);
