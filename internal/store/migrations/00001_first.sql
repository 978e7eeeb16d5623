-- Times are microseconds since 1970 UTC; 0 is "never". Lists are JSON arrays.
-- +goose Up
CREATE TABLE organizations (
    id               TEXT PRIMARY KEY,
    title            TEXT NOT NULL,
    resource_version BIGINT NOT NULL,
    created_at       BIGINT NOT NULL
);

CREATE TABLE tenants (
    name             TEXT PRIMARY KEY,
    organization     TEXT NOT NULL REFERENCES organizations (id),
    region           TEXT NOT NULL,
    resource_version BIGINT NOT NULL,
    created_at       BIGINT NOT NULL
);
CREATE INDEX tenants_organization ON tenants (organization);

-- An account belongs to one organization at a time: the primary key says so.
CREATE TABLE accounts (
    id               TEXT PRIMARY KEY,
    organization     TEXT NOT NULL REFERENCES organizations (id),
    principal_arn    TEXT NOT NULL,
    state            TEXT NOT NULL,
    proven_at        BIGINT NOT NULL,
    resource_version BIGINT NOT NULL
);
CREATE INDEX accounts_organization ON accounts (organization);

CREATE TABLE challenges (
    nonce        TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    expires_at   BIGINT NOT NULL
);

CREATE TABLE endpoints (
    id               TEXT PRIMARY KEY,
    organization     TEXT NOT NULL REFERENCES organizations (id),
    approved_by      TEXT NOT NULL,
    approved_at      BIGINT NOT NULL,
    removing         BOOLEAN NOT NULL,
    service_region   TEXT NOT NULL,
    endpoint_region  TEXT NOT NULL,
    owner            TEXT NOT NULL,
    dns_names        TEXT NOT NULL,
    state            TEXT NOT NULL,
    conditions       TEXT NOT NULL,
    missing_since    BIGINT NOT NULL,
    resource_version BIGINT NOT NULL,
    created_at       BIGINT NOT NULL
);
CREATE INDEX endpoints_organization ON endpoints (organization);

-- Which tenants an endpoint was claimed for; no row: all of the segment.
CREATE TABLE endpoint_tenants (
    endpoint TEXT NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    tenant   TEXT NOT NULL REFERENCES tenants (name),
    PRIMARY KEY (endpoint, tenant)
);

CREATE TABLE tokens (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    role         TEXT NOT NULL,
    organization TEXT NOT NULL,
    secret_hash  BLOB NOT NULL UNIQUE, -- SHA-256 of 256 random bits
    expires_at   BIGINT NOT NULL,
    revoked_at   BIGINT NOT NULL,      -- kept, so that a revoked bootstrap token stays revoked
    created_at   BIGINT NOT NULL
);

CREATE TABLE events (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    at           BIGINT NOT NULL,
    actor        TEXT NOT NULL,
    action       TEXT NOT NULL,
    kind         TEXT NOT NULL,
    subject      TEXT NOT NULL,
    organization TEXT NOT NULL,
    message      TEXT NOT NULL
);
CREATE INDEX events_organization ON events (organization, seq);

-- Answers to requests that carried an Idempotency-Key, written in the
-- transaction of the request's own writes.
CREATE TABLE idempotency (
    token_id     TEXT NOT NULL,
    key          TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    answer       TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (token_id, key)
);

-- What the ingress nodes reported, added up; reason '' is an admitted arrival.
CREATE TABLE arrivals (
    region       TEXT NOT NULL,
    listener     TEXT NOT NULL,
    endpoint     TEXT NOT NULL,
    source       TEXT NOT NULL,
    server_name  TEXT NOT NULL,
    reason       TEXT NOT NULL,
    organization TEXT NOT NULL,
    count        BIGINT NOT NULL,
    first_seen   BIGINT NOT NULL,
    last_seen    BIGINT NOT NULL,
    PRIMARY KEY (region, listener, endpoint, source, server_name, reason, organization)
);
CREATE INDEX arrivals_last_seen ON arrivals (last_seen);

-- The one compiled route table; its revision never regresses.
CREATE TABLE routes (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL,
    body     TEXT NOT NULL
);

-- +goose Down
DROP TABLE routes;
DROP TABLE arrivals;
DROP TABLE idempotency;
DROP TABLE events;
DROP TABLE tokens;
DROP TABLE endpoint_tenants;
DROP TABLE endpoints;
DROP TABLE challenges;
DROP TABLE accounts;
DROP TABLE tenants;
DROP TABLE organizations;
