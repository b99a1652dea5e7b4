//! Invitations: the initial access tokens of RFC 7591 3, by which apps are registered where registration is not
//! open. The people who run the server make them, on the command line.

use serde_json::json;

use super::client_metadata::Approved;
use crate::clock::{Chance, Millis};
use crate::crypto::{Hashed, Secret};
use crate::events::{Event, Kind};
use crate::params;
use crate::store::db::{DbError, Tx};

/// An invitation that can be used now.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// What is kept of its token.
    pub hash: Hashed,
    /// What the app that is registered with it is allowed.
    pub approved: Approved,
}

/// Makes an invitation for that many apps, good until `expires`.
pub fn make(
    tx: &Tx<'_>,
    approved: Approved,
    uses: u32,
    now: Millis,
    expires: Millis,
    chance: &Chance,
) -> Result<Secret, DbError> {
    let secret = Secret::new("hg_invite_", chance);
    tx.execute(
        "INSERT INTO invitations (hash, approved, uses_left, created_ms, expires_ms) VALUES ($1, $2, $3, $4, $5)",
        params![secret.hashed().as_str(), json!(approved).to_string(), i64::from(uses), now, expires],
    )?;
    Event::new(Kind::AppInvited, now).insert(tx)?;
    Ok(secret)
}

/// The invitation that this token is, as long as it can be used.
pub fn find(tx: &Tx<'_>, presented: &str, now: Millis) -> Result<Option<Invitation>, DbError> {
    let hash = Hashed::of(presented);
    let sql = "SELECT approved FROM invitations WHERE hash = $1 AND uses_left > 0 AND expires_ms > $2";
    let approved = tx.first(sql, params![hash.as_str(), now], |row| row.json(0))?;
    Ok(approved.map(|approved| Invitation { hash, approved }))
}

/// Uses it for one app; false where it was used up or ran out in the meantime.
pub fn spend(tx: &Tx<'_>, invitation: &Invitation, now: Millis) -> Result<bool, DbError> {
    let sql = "UPDATE invitations SET uses_left = uses_left - 1
               WHERE hash = $1 AND uses_left > 0 AND expires_ms > $2 RETURNING hash";
    let spent = tx.first(sql, params![invitation.hash.as_str(), now], |row| row.get::<String>(0))?;
    Ok(spent.is_some())
}

/// Forgets those whose time was over before `then`.
pub fn forget(tx: &Tx<'_>, then: Millis) -> Result<(), DbError> {
    tx.execute("DELETE FROM invitations WHERE expires_ms < $1", params![then]).map(drop)
}
