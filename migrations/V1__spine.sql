-- Ids and hashes are text, times are milliseconds since 1970, booleans are 0 and 1, JSON is text.

CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- Keys that tokens are signed with; the private half is sealed under the master key.
CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    alg TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

-- People. `id` is the `sub` of their tokens; `position` orders the sandbox's own people.
CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    fhir_user TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    about TEXT NOT NULL,
    sees_everyone INTEGER NOT NULL,
    position INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    disabled_ms INTEGER
) STRICT;

-- Whose records a person may open: a Patient stands in their own list, a practitioner's list is a panel.
CREATE TABLE acts_for (
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    patient TEXT NOT NULL,
    relationship TEXT NOT NULL,
    position INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER,
    PRIMARY KEY (account, patient)
) STRICT;

CREATE TABLE sessions (
    sid TEXT PRIMARY KEY,
    secret_hash TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL,
    signed_in_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    ended_ms INTEGER
) STRICT;

-- Apps. `metadata` is the validated RFC 7591 metadata.
CREATE TABLE clients (
    id TEXT PRIMARY KEY,
    metadata TEXT NOT NULL,
    manage_hash TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE client_secrets (
    client TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (client, hash)
) STRICT;

-- The web origins of an app's redirect and launch URIs, for CORS.
CREATE TABLE client_origins (
    origin TEXT NOT NULL,
    client TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    PRIMARY KEY (origin, client)
) STRICT, WITHOUT ROWID;

-- The browsers in which an app's developer manages it.
CREATE TABLE client_managers (
    client TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    browser_hash TEXT NOT NULL,
    PRIMARY KEY (client, browser_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX client_managers_by_browser ON client_managers (browser_hash);

-- Authorization requests that passed the checks. `browser_hash` is set by the first visit.
CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    asked TEXT NOT NULL,
    trace TEXT NOT NULL,
    browser_hash TEXT,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    chosen_by TEXT,
    patient TEXT,
    encounter TEXT,
    answered_ms INTEGER
) STRICT;
CREATE INDEX requests_by_expiry ON requests (expires_ms);

-- What was granted: the thing that is revoked. Tokens and codes only point here.
CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    account TEXT,
    patient TEXT,
    encounter TEXT,
    audience TEXT NOT NULL,
    scopes TEXT NOT NULL,
    session TEXT,
    signed_in_ms INTEGER,
    trace TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    ended_why TEXT
) STRICT;
CREATE INDEX grants_by_account ON grants (account, client);
CREATE INDEX grants_by_client ON grants (client);
CREATE INDEX grants_by_session ON grants (session);

CREATE TABLE codes (
    hash TEXT PRIMARY KEY,
    grant_id TEXT NOT NULL REFERENCES grants (id),
    client TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    challenge TEXT,
    nonce TEXT,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER
) STRICT;
CREATE INDEX codes_by_expiry ON codes (expires_ms);

-- `scopes` only where they are fewer than the grant's.
CREATE TABLE access_tokens (
    hash TEXT PRIMARY KEY,
    grant_id TEXT NOT NULL REFERENCES grants (id),
    scopes TEXT,
    issued_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX access_tokens_by_grant ON access_tokens (grant_id);
CREATE INDEX access_tokens_by_expiry ON access_tokens (expires_ms);

-- Who did what through which app to which record, and why. Append-only, no bodies.
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    grant_id TEXT,
    client TEXT,
    account TEXT,
    patient TEXT,
    type TEXT,
    resource TEXT,
    outcome TEXT NOT NULL,
    reason TEXT
) STRICT;
