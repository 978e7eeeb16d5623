-- What was taken away and nodes may still offer. No reference to tenants: a
-- deleted one has a row.
-- +goose Up
CREATE TABLE withdrawals (
    kind         TEXT NOT NULL,
    tenant       TEXT NOT NULL,
    organization TEXT NOT NULL,
    at           BIGINT NOT NULL,
    revision     BIGINT NOT NULL,
    told         BOOLEAN NOT NULL,
    PRIMARY KEY (kind, tenant)
);

-- +goose Down
DROP TABLE withdrawals;
