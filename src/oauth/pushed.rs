//! Pushed authorization requests: checked, and waiting for the browser that brings their `request_uri` (RFC 9126).

use serde_json::json;

use super::request::Asked;
use crate::clock::{Chance, Millis, SECOND};
use crate::crypto::{Hashed, Secret};
use crate::error::{Code, Problem};
use crate::params;
use crate::store::db::{DbError, Tx};

/// How long a browser may take to bring it.
pub const LIFE: Millis = 90 * SECOND;

/// What every `request_uri` of ours begins with (RFC 9126 2.2).
const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// A request that its app has pushed and no browser has brought yet.
pub struct Pushed {
    hash: Hashed,
    /// What it asks for, after every check.
    pub asked: Asked,
}

/// Keeps what an app asks for; answers with the `request_uri` that stands for it.
pub fn keep(
    tx: &Tx<'_>,
    client: &str,
    asked: &Asked,
    now: Millis,
    chance: &Chance,
) -> Result<Secret, DbError> {
    let uri = Secret::new(PREFIX, chance);
    tx.execute(
        "INSERT INTO pushed_requests (hash, client, asked, expires_ms) VALUES ($1, $2, $3, $4)",
        params![uri.hashed().as_str(), client, json!(asked).to_string(), now + LIFE],
    )?;
    Ok(uri)
}

/// Forgets those that ended before `then`, some at a time.
pub fn forget(tx: &Tx<'_>, then: Millis) -> Result<(), DbError> {
    let sql = "DELETE FROM pushed_requests WHERE hash IN
               (SELECT hash FROM pushed_requests WHERE expires_ms < $1 ORDER BY expires_ms, hash LIMIT 1000)";
    tx.execute(sql, params![then]).map(drop)
}

fn refused(words: &'static str) -> Problem {
    Problem::new(Code::InvalidRequestUri, words)
}

/// The refusal of a `request_uri` that a browser has brought before.
pub fn used() -> Problem {
    refused("this `request_uri` was used before, and each is good once; go back to the app and start again")
}

impl Pushed {
    /// What an app pushed under a `request_uri`, if that can still be used. To another app it is unknown.
    pub fn find(
        tx: &Tx<'_>,
        uri: &str,
        client: &str,
        now: Millis,
    ) -> Result<Result<Pushed, Problem>, DbError> {
        let hash = Hashed::of(uri);
        let found = tx.first(
            "SELECT asked, expires_ms, used_ms FROM pushed_requests WHERE hash = $1 AND client = $2",
            params![hash.as_str(), client],
            |row| Ok((row.json(0)?, row.get::<Millis>(1)?, row.get::<Option<Millis>>(2)?)),
        )?;
        Ok(match found {
            None => Err(refused(
                "this `request_uri` was not issued here to this app, and none is fetched; push the request to \
                 /oauth/par, or send its parameters themselves",
            )
            .at("request_uri")),
            Some((_, _, Some(_))) => Err(used()),
            Some((_, expires, None)) if now >= expires => {
                Err(refused("this `request_uri` has expired; go back to the app and start again"))
            }
            Some((asked, _, None)) => Ok(Pushed { hash, asked }),
        })
    }

    /// Uses it up: false where another browser was faster, or its time is over.
    pub fn consume(&self, tx: &Tx<'_>, now: Millis) -> Result<bool, DbError> {
        let sql = "UPDATE pushed_requests SET used_ms = $2
                   WHERE hash = $1 AND used_ms IS NULL AND expires_ms > $2 RETURNING hash";
        Ok(tx.first(sql, params![self.hash.as_str(), now], |row| row.get::<String>(0))?.is_some())
    }
}
