-- A signing key signs from `active_ms` on, and no more from `retired_ms` on. It is published before and after that.
ALTER TABLE signing_keys ADD COLUMN active_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE signing_keys ADD COLUMN retired_ms INTEGER;
UPDATE signing_keys SET active_ms = created_ms;
