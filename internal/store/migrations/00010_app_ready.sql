-- Whether an app was reached privately when the loop looked last, so that a
-- change of that is an event.
-- +goose Up
ALTER TABLE app_access ADD COLUMN ready BOOLEAN NOT NULL DEFAULT FALSE;

-- +goose Down
ALTER TABLE app_access DROP COLUMN ready;
