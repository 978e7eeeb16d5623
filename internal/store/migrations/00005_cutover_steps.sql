-- +goose Up
ALTER TABLE cutovers ADD COLUMN fallback_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE cutovers ADD COLUMN redirected_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE cutovers ADD COLUMN failing_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE cutovers ADD COLUMN restored_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE cutovers ADD COLUMN settled_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE cutovers ADD COLUMN led_before BOOLEAN NOT NULL DEFAULT FALSE;
-- Those of before published both records at once, and kept no fallback.
UPDATE cutovers SET fallback_at = published_at, redirected_at = started_at;
UPDATE cutovers SET settled_at = ended_at WHERE phase = 'rolled-back';

-- +goose Down
ALTER TABLE cutovers DROP COLUMN led_before;
ALTER TABLE cutovers DROP COLUMN settled_at;
ALTER TABLE cutovers DROP COLUMN restored_at;
ALTER TABLE cutovers DROP COLUMN failing_since;
ALTER TABLE cutovers DROP COLUMN redirected_at;
ALTER TABLE cutovers DROP COLUMN fallback_at;
