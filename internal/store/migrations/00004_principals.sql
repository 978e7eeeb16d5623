-- What Postern put, or is about to put, on the allow-lists of endpoint
-- services. A principal that is not here was put there by hand and is left
-- alone.
-- +goose Up
CREATE TABLE principals (
    service      TEXT NOT NULL,
    principal    TEXT NOT NULL,
    absent_since BIGINT NOT NULL, -- since when it is neither wanted nor listed
    PRIMARY KEY (service, principal)
);

-- +goose Down
DROP TABLE principals;
