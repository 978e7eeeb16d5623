-- +goose Up
CREATE TABLE data_connections (
    id               TEXT PRIMARY KEY,
    organization     TEXT NOT NULL REFERENCES organizations (id),
    tenant           TEXT NOT NULL REFERENCES tenants (name),
    kind             TEXT NOT NULL,
    region           TEXT NOT NULL,
    zones            TEXT NOT NULL,
    service          TEXT NOT NULL, -- vpce-svc-…
    service_name     TEXT NOT NULL,
    hostname         TEXT NOT NULL,
    ports            TEXT NOT NULL,
    created_by       TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    removing         BOOLEAN NOT NULL,
    proven_at        BIGINT NOT NULL,
    service_owner    TEXT NOT NULL,
    made_since       BIGINT NOT NULL,
    security_group   TEXT NOT NULL,
    endpoint         TEXT NOT NULL,
    dns_names        TEXT NOT NULL,
    addresses        TEXT NOT NULL,
    missing_since    BIGINT NOT NULL,
    ready_at         BIGINT NOT NULL,
    state            TEXT NOT NULL,
    conditions       TEXT NOT NULL,
    verify_asked     BIGINT NOT NULL,
    checked_at       BIGINT NOT NULL,
    resource_version BIGINT NOT NULL
);
-- A hostname belongs to who proved it. Until then anybody may ask for it, and
-- learns nothing from being let to; within an organization nothing is hidden.
CREATE UNIQUE INDEX data_connections_proven ON data_connections (hostname) WHERE proven_at > 0;
CREATE UNIQUE INDEX data_connections_hostname ON data_connections (organization, hostname);
CREATE INDEX data_connections_tenant ON data_connections (tenant);

-- Connections of which something was at AWS, for what takes effect there after
-- they were removed.
CREATE TABLE removed_connections (
    id         TEXT PRIMARY KEY,
    region     TEXT NOT NULL,
    removed_at BIGINT NOT NULL
);

ALTER TABLE tokens ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
CREATE INDEX tokens_role ON tokens (role);

-- +goose Down
DROP INDEX tokens_role;
ALTER TABLE tokens DROP COLUMN tenant;
DROP TABLE removed_connections;
DROP TABLE data_connections;
