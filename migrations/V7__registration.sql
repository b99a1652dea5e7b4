-- What the people who run this server allowed the app beyond what any app may register, as JSON. It stays with
-- the app through every change.
ALTER TABLE clients ADD COLUMN approved TEXT NOT NULL DEFAULT '{}';

-- The how manieth secret of its app; at most two live at once, the newest and the one before it.
ALTER TABLE client_secrets ADD COLUMN number INTEGER NOT NULL DEFAULT 1;

-- Initial access tokens: who may register an app where registration is not open, and what it is allowed.
CREATE TABLE invitations (
    hash TEXT PRIMARY KEY,
    approved TEXT NOT NULL,
    uses_left INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX invitations_by_expiry ON invitations (expires_ms);
