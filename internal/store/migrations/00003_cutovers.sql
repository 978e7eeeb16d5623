-- +goose Up
CREATE TABLE cutovers (
    id               TEXT PRIMARY KEY,
    tenant           TEXT NOT NULL,
    organization     TEXT NOT NULL REFERENCES organizations (id),
    phase            TEXT NOT NULL,
    acknowledged     TEXT NOT NULL,
    conditions       TEXT NOT NULL,
    started_by       TEXT NOT NULL,
    started_at       BIGINT NOT NULL,
    published_at     BIGINT NOT NULL,
    enforced_at      BIGINT NOT NULL,
    drain_until      BIGINT NOT NULL,
    enforce_revision BIGINT NOT NULL,
    withdrawn_at     BIGINT NOT NULL,
    ended_at         BIGINT NOT NULL,
    ended_by         TEXT NOT NULL,
    ended_why        TEXT NOT NULL,
    resource_version BIGINT NOT NULL
);
-- A tenant has one cutover that counts; those that were rolled back are history.
CREATE UNIQUE INDEX cutovers_current ON cutovers (tenant) WHERE phase <> 'rolled-back';
CREATE INDEX cutovers_organization ON cutovers (organization);

CREATE TABLE probes (
    nonce      TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL REFERENCES tenants (name) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    endpoint   TEXT NOT NULL,
    seen_at    BIGINT NOT NULL
);
CREATE INDEX probes_tenant ON probes (tenant);

-- The public DNS that was compiled last; its revision never regresses.
CREATE TABLE zones (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL,
    body     TEXT NOT NULL
);

-- What each node found when it asked a backend for a host that was not admitted.
CREATE TABLE isolation (
    node     TEXT NOT NULL,
    address  TEXT NOT NULL,
    isolated BOOLEAN NOT NULL,
    detail   TEXT NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (node, address)
);

CREATE INDEX arrivals_server_name ON arrivals (server_name, last_seen);

-- +goose Down
DROP INDEX arrivals_server_name;
DROP TABLE isolation;
DROP TABLE zones;
DROP TABLE probes;
DROP TABLE cutovers;
