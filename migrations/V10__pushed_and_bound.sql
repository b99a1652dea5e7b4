-- Authorization requests that apps pushed, until a browser brings their request_uri.
CREATE TABLE pushed_requests (
    hash TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    asked TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER
) STRICT;
CREATE INDEX pushed_requests_by_expiry ON pushed_requests (expires_ms);
