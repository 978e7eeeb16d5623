-- +goose Up
CREATE TABLE nodes (
    id               TEXT PRIMARY KEY,
    regions          TEXT NOT NULL,
    version          TEXT NOT NULL,
    boot_id          TEXT NOT NULL,
    report_seq       BIGINT NOT NULL, -- of the last report of this boot that was taken
    applied_revision BIGINT NOT NULL,
    registered_at    BIGINT NOT NULL,
    last_seen        BIGINT NOT NULL,
    fenced           BOOLEAN NOT NULL,
    fenced_by        TEXT NOT NULL,
    fenced_at        BIGINT NOT NULL,
    resource_version BIGINT NOT NULL
);

-- +goose Down
DROP TABLE nodes;
