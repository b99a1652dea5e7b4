-- Launches from an EHR that wait for their app. The app is given the handle; kept is its hash.
CREATE TABLE launches (
    hash TEXT PRIMARY KEY,
    client TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    audience TEXT NOT NULL,
    patient TEXT,
    encounter TEXT,
    context TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER
) STRICT;
CREATE INDEX launches_by_expiry ON launches (expires_ms);

-- What an EHR launch tells the app beyond patient and encounter.
ALTER TABLE grants ADD COLUMN context TEXT;
