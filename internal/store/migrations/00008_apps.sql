-- Organizations' private access to apps whose hosts they share. A row stays when
-- it is turned off, so that its version never comes again.
-- +goose Up
CREATE TABLE app_access (
    organization     TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    app              TEXT NOT NULL,
    enabled          BOOLEAN NOT NULL,
    changed_by       TEXT NOT NULL,
    changed_at       BIGINT NOT NULL,
    resource_version BIGINT NOT NULL,
    PRIMARY KEY (organization, app)
);

-- +goose Down
DROP TABLE app_access;
