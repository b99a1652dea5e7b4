-- The jti of every client assertion that was used, so that none is used twice. `jti` is a hash of it.
CREATE TABLE assertions (
    client TEXT NOT NULL,
    jti TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (client, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX assertions_by_expiry ON assertions (expires_ms);

-- Each token of a backend service has a grant of its own, which is forgotten after it: `account` is nobody. Before a
-- grant goes, nothing may point to it any more.
CREATE INDEX grants_of_services ON grants (created_ms, id) WHERE account IS NULL;
CREATE INDEX codes_by_grant ON codes (grant_id);
