-- The jti of every client assertion that was used, so that none is used twice. `jti` is a hash of it.
CREATE TABLE assertions (
    client TEXT NOT NULL,
    jti TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (client, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX assertions_by_expiry ON assertions (expires_ms);
