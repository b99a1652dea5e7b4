-- Authorization requests that apps pushed, until a browser brings their request_uri.
CREATE TABLE pushed_requests (
    hash TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    asked TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER
) STRICT;
CREATE INDEX pushed_requests_by_expiry ON pushed_requests (expires_ms);

-- Keys that apps proved to hold (RFC 9449), by RFC 7638 thumbprint: a code can be exchanged, a token used, only
-- with a proof by that key.
ALTER TABLE codes ADD COLUMN jkt TEXT;
ALTER TABLE access_tokens ADD COLUMN jkt TEXT;
ALTER TABLE refresh_tokens ADD COLUMN jkt TEXT;

-- Proofs that were used at the token endpoint or with a pushed request. `id` is a hash of key and jti.
CREATE TABLE dpop_proofs (
    id TEXT PRIMARY KEY,
    expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX dpop_proofs_by_expiry ON dpop_proofs (expires_ms);
