-- Read in this order at every token request; without these, sorted each time.
CREATE INDEX signing_keys_by_use ON signing_keys (alg, active_ms DESC, kid);
CREATE INDEX acts_for_in_order ON acts_for (account, position, patient);
