-- Apps that are still to be told that a session ended. Written in the transaction that ends it.
CREATE TABLE logout_notices (
    sid TEXT NOT NULL,
    client TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    account TEXT NOT NULL,
    tries INTEGER NOT NULL,
    next_ms INTEGER NOT NULL,
    PRIMARY KEY (sid, client)
) STRICT, WITHOUT ROWID;
CREATE INDEX logout_notices_by_time ON logout_notices (next_ms);
