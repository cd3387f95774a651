-- The first form of the shared state. Never changed: what comes later has a number of its own.

-- One row: writers take their turn at it, so that revisions become visible in their order.
-- changes up to the revision pruned_to are forgotten.
CREATE TABLE state (
    only_one  BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (only_one),
    revision  BIGINT NOT NULL DEFAULT 0,
    pruned_to BIGINT NOT NULL DEFAULT 0
);
INSERT INTO state DEFAULT VALUES;

CREATE TABLE changes (
    revision BIGINT NOT NULL,
    kind     TEXT NOT NULL,
    issuer   TEXT NOT NULL,
    key      TEXT NOT NULL,
    at       TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX changes_revision ON changes (revision);

CREATE TABLE databases (
    database_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    dsn         TEXT NOT NULL,
    sealed      BYTEA NOT NULL,
    created_at  BIGINT NOT NULL
);

-- database: JSON, a number for a registered database, a text for a connection of the configuration.
CREATE TABLE tokens (
    position   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer     TEXT NOT NULL,
    token_id   TEXT NOT NULL,
    digest     BYTEA UNIQUE,
    database   TEXT NOT NULL,
    label      TEXT NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT,
    UNIQUE (issuer, token_id)
);
CREATE INDEX tokens_expires_at ON tokens (expires_at);
CREATE INDEX tokens_database ON tokens (database);

CREATE TABLE agents (
    client_id  TEXT COLLATE "C" PRIMARY KEY,
    digest     BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE proxies (
    position   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    proxy_id   TEXT NOT NULL UNIQUE,
    document   TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE nodes (
    number  INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    seen_at BIGINT NOT NULL
);
