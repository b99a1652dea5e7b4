-- FHIR resources. `owner` is the patient a resource is about, or ''. `json` is what is answered.
CREATE TABLE resources (
    key INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    owner TEXT NOT NULL,
    json TEXT NOT NULL,
    UNIQUE (type, id)
) STRICT;
CREATE INDEX resources_by_owner ON resources (type, owner);
CREATE INDEX resources_by_type ON resources (type);

-- Earlier versions.
CREATE TABLE history (
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    owner TEXT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (type, id, version)
) STRICT;

-- Which resource refers to which: (type, id), about `owner`, -> (to_type, to_id).
CREATE TABLE refers (
    to_type TEXT NOT NULL,
    to_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (to_type, to_id, owner, type, id)
) STRICT, WITHOUT ROWID;

-- What resources are found by: one table for each kind of search parameter, each row also its key.
-- Values that are asked for by equality come before the owner, ranges after it, so that both a search
-- within one patient and one among all of them read a single stretch of the index. '' is "none".
-- A Patient's own rows have the owner '', since patients are searched for, not within.
CREATE TABLE index_token (
    type TEXT NOT NULL,
    param TEXT NOT NULL,
    code TEXT NOT NULL,
    owner TEXT NOT NULL,
    system TEXT NOT NULL,
    resource INTEGER NOT NULL,
    PRIMARY KEY (type, param, code, owner, system, resource)
) STRICT, WITHOUT ROWID;

CREATE TABLE index_reference (
    type TEXT NOT NULL,
    param TEXT NOT NULL,
    target TEXT NOT NULL,
    owner TEXT NOT NULL,
    resource INTEGER NOT NULL,
    PRIMARY KEY (type, param, target, owner, resource)
) STRICT, WITHOUT ROWID;

CREATE TABLE index_uri (
    type TEXT NOT NULL,
    param TEXT NOT NULL,
    uri TEXT NOT NULL,
    owner TEXT NOT NULL,
    resource INTEGER NOT NULL,
    PRIMARY KEY (type, param, uri, owner, resource)
) STRICT, WITHOUT ROWID;

CREATE TABLE index_string (
    type TEXT NOT NULL,
    param TEXT NOT NULL,
    owner TEXT NOT NULL,
    folded TEXT NOT NULL,
    exact TEXT NOT NULL,
    resource INTEGER NOT NULL,
    PRIMARY KEY (type, param, owner, folded, exact, resource)
) STRICT, WITHOUT ROWID;

CREATE TABLE index_date (
    type TEXT NOT NULL,
    param TEXT NOT NULL,
    owner TEXT NOT NULL,
    lo INTEGER NOT NULL,
    hi INTEGER NOT NULL,
    resource INTEGER NOT NULL,
    PRIMARY KEY (type, param, owner, lo, hi, resource)
) STRICT, WITHOUT ROWID;

CREATE TABLE index_number (
    type TEXT NOT NULL,
    param TEXT NOT NULL,
    owner TEXT NOT NULL,
    lo REAL NOT NULL,
    hi REAL NOT NULL,
    resource INTEGER NOT NULL,
    PRIMARY KEY (type, param, owner, lo, hi, resource)
) STRICT, WITHOUT ROWID;

CREATE TABLE index_quantity (
    type TEXT NOT NULL,
    param TEXT NOT NULL,
    owner TEXT NOT NULL,
    lo REAL NOT NULL,
    hi REAL NOT NULL,
    system TEXT NOT NULL,
    code TEXT NOT NULL,
    unit TEXT NOT NULL,
    resource INTEGER NOT NULL,
    PRIMARY KEY (type, param, owner, lo, hi, system, code, unit, resource)
) STRICT, WITHOUT ROWID;
