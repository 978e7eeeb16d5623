-- +goose Up
-- The regions whose egress a node is; null: it did not say.
ALTER TABLE nodes ADD COLUMN egress TEXT NOT NULL DEFAULT 'null';

-- What each egress node found when it last looked at a connection's cluster.
CREATE TABLE looks (
    connection TEXT NOT NULL REFERENCES data_connections (id) ON DELETE CASCADE,
    node       TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    looked_of  TEXT NOT NULL,
    asked      BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    findings   TEXT NOT NULL,
    PRIMARY KEY (connection, node)
);
CREATE INDEX looks_node ON looks (node);

-- +goose Down
DROP TABLE looks;
ALTER TABLE nodes DROP COLUMN egress;
