//! The keys that tokens are signed with: made once, sealed in the database, loaded at start.

use serde_json::{Value, json};

use crate::clock::{Chance, Millis};
use crate::crypto::{CryptoError, MasterKey};
use crate::jose::{Alg, SigningKey};
use crate::params;
use crate::store::db::{DbError, Store, Verdict};

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] DbError),
    /// A key cannot be made or opened; with another master key than it was sealed with, for one.
    #[error("signing keys: {0} (is HEARTHGATE_KEY, or the key file beside the database, the right one?)")]
    Crypto(#[from] CryptoError),
}

/// The signing keys, one of each algorithm.
pub struct Keys {
    keys: Vec<SigningKey>,
    jwks: Value,
}

impl Keys {
    /// Loads the keys, making those that are not there yet.
    pub fn load(store: &Store, master: &MasterKey, chance: &Chance, now: Millis) -> Result<Self, KeyError> {
        let kept: Vec<(String, String, String)> = store.read(|tx| {
            tx.all("SELECT kid, alg, sealed FROM signing_keys ORDER BY created_ms, kid", &[], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
        })?;
        let mut keys = Vec::new();
        for (kid, alg, sealed) in kept {
            let Some(alg) = Alg::from_name(&alg) else { continue };
            keys.push(SigningKey::from_pkcs8(alg, &master.open(&sealed, &kid)?)?);
        }
        for alg in Alg::OURS {
            if keys.iter().all(|key| key.alg != alg) {
                let (key, private) = SigningKey::generate(alg)?;
                let (kid, sealed) = (key.kid.clone(), master.seal(&private, &key.kid, chance));
                store.write_blocking(move |tx| {
                    tx.execute(
                        "INSERT INTO signing_keys (kid, alg, sealed, created_ms) VALUES ($1, $2, $3, $4)",
                        params![kid, alg.as_str(), sealed, now],
                    )?;
                    Ok(Verdict::Commit(()))
                })?;
                keys.push(key);
            }
        }
        // RS256 first: some relying parties look no further than the first key.
        keys.sort_by_key(|key| Alg::OURS.iter().position(|alg| *alg == key.alg));
        let jwks = json!({"keys": keys.iter().map(SigningKey::jwk).collect::<Vec<_>>()});
        Ok(Keys { keys, jwks })
    }

    /// Whether the database holds signing keys already.
    pub fn are_kept(store: &Store) -> Result<bool, DbError> {
        let found = store.read(|tx| tx.first("SELECT 1 FROM signing_keys", &[], |row| row.get::<i64>(0)))?;
        Ok(found.is_some())
    }

    /// The key that signs with `alg` now: the newest.
    pub fn signing(&self, alg: Alg) -> Option<&SigningKey> {
        self.keys.iter().rev().find(|key| key.alg == alg)
    }

    /// The public halves as a JWK Set (RFC 7517 5).
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }
}
