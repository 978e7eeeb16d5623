-- +goose Up
ALTER TABLE arrivals ADD COLUMN ja4 TEXT NOT NULL DEFAULT ''; -- of one of the clients, a hint
