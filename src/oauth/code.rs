//! Authorization codes: good once, for a minute, for the app and the verifier they were made for.

use crate::clock::{Chance, Millis};
use crate::config::CODE_LIFE;
use crate::crypto::{Hashed, Secret};
use crate::params;
use crate::store::db::{DbError, Tx};

/// A code as it is kept.
#[derive(Clone, Debug)]
pub struct Code {
    /// What it hands over.
    pub grant: String,
    /// The app it was given to.
    pub client: String,
    /// Where it was sent.
    pub redirect_uri: String,
    /// PKCE's S256 challenge.
    pub challenge: Option<String>,
    /// The thumbprint of the one key it can be exchanged with (RFC 9449 10).
    pub jkt: Option<String>,
    /// For the id_token.
    pub nonce: Option<String>,
    /// From then on it is dead.
    pub expires: Millis,
    /// When it was exchanged.
    pub used: Option<Millis>,
}

impl Code {
    /// A new code, unused and good for a minute from `now`.
    pub fn issue(&self, tx: &Tx<'_>, chance: &Chance) -> Result<Secret, DbError> {
        let secret = Secret::new("hg_code_", chance);
        tx.execute(
            "INSERT INTO codes (hash, grant_id, client, redirect_uri, challenge, jkt, nonce, expires_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            params![
                secret.hashed().as_str(),
                &self.grant,
                &self.client,
                &self.redirect_uri,
                self.challenge.as_deref(),
                self.jkt.as_deref(),
                self.nonce.as_deref(),
                self.expires
            ],
        )?;
        Ok(secret)
    }

    /// When a code made at `now` dies.
    pub fn expiry(now: Millis) -> Millis {
        now + CODE_LIFE
    }

    /// The code somebody presented, whatever its state.
    pub fn find(tx: &Tx<'_>, presented: &str) -> Result<Option<Code>, DbError> {
        tx.first(
            "SELECT grant_id, client, redirect_uri, challenge, jkt, nonce, expires_ms, used_ms
             FROM codes WHERE hash = $1",
            params![Hashed::of(presented).as_str()],
            |row| {
                Ok(Code {
                    grant: row.get(0)?,
                    client: row.get(1)?,
                    redirect_uri: row.get(2)?,
                    challenge: row.get(3)?,
                    jkt: row.get(4)?,
                    nonce: row.get(5)?,
                    expires: row.get(6)?,
                    used: row.get(7)?,
                })
            },
        )
    }

    /// Forgets those that died before `then`, some at a time.
    pub fn forget(tx: &Tx<'_>, then: Millis) -> Result<(), DbError> {
        let sql = "DELETE FROM codes WHERE hash IN
                   (SELECT hash FROM codes WHERE expires_ms < $1 ORDER BY expires_ms, hash LIMIT 1000)";
        tx.execute(sql, params![then]).map(drop)
    }

    /// Uses it up: false where somebody was faster.
    pub fn consume(tx: &Tx<'_>, presented: &str, now: Millis) -> Result<bool, DbError> {
        let sql = "UPDATE codes SET used_ms = $2 WHERE hash = $1 AND used_ms IS NULL";
        Ok(tx.execute(sql, params![Hashed::of(presented).as_str(), now])? == 1)
    }
}
