-- A tenant's SCIM-only public ingress. Sources are a JSON array of networks;
-- NULL: nobody asked for the ingress.
-- +goose Up
ALTER TABLE tenants ADD COLUMN scim_sources TEXT;
ALTER TABLE tenants ADD COLUMN scim_enabled_by TEXT NOT NULL DEFAULT '';
ALTER TABLE tenants ADD COLUMN scim_enabled_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE tenants DROP COLUMN scim_enabled_at;
ALTER TABLE tenants DROP COLUMN scim_enabled_by;
ALTER TABLE tenants DROP COLUMN scim_sources;
