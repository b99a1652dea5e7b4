-- What people need not be asked again: it only decides whether the consent page is shown. '' is no patient.
CREATE TABLE consents (
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    client TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    patient TEXT NOT NULL,
    scopes TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (account, client, patient)
) STRICT, WITHOUT ROWID;
CREATE INDEX consents_by_client ON consents (client);
