//! Browser sessions: a stable `sid`, a cookie secret that is new at each sign-in, and form tokens.

use crate::clock::{Chance, MINUTE, Millis};
use crate::config::{SESSION_IDLE, SESSION_LIFE};
use crate::crypto::{Hashed, Mac, MasterKey, Secret};
use crate::oauth::grant::Grant;
use crate::oidc::logout_notices;
use crate::params;
use crate::store::db::{DbError, Tx};

/// A session that is seen again within this time is not written again.
const SEEN_EVERY: Millis = MINUTE;

/// A live session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Stable for the session's life; grants refer to it.
    pub sid: String,
    /// Who signed in.
    pub account: String,
    /// When they proved who they are: `auth_time`.
    pub signed_in: Millis,
    seen: Millis,
}

impl Session {
    /// Signs a person in at a browser. Their own session there goes on under a new secret, so that what
    /// depends on it lives; somebody else's is ended.
    pub fn sign_in(
        tx: &Tx<'_>,
        cookie: Option<&str>,
        account: &str,
        now: Millis,
        chance: &Chance,
    ) -> Result<Secret, DbError> {
        let secret = Secret::new("", chance);
        let present = match cookie {
            Some(cookie) => Session::find(tx, cookie, now)?,
            None => None,
        };
        if let Some(own) = present.as_ref().filter(|s| s.account == account) {
            tx.execute(
                "UPDATE sessions SET secret_hash = $2, signed_in_ms = $3, seen_ms = $3 WHERE sid = $1",
                params![&own.sid, secret.hashed().as_str(), now],
            )?;
            return Ok(secret);
        }
        if let Some(other) = &present {
            Session::end(tx, &other.sid, now)?;
        }
        tx.execute(
            "INSERT INTO sessions (sid, secret_hash, account, signed_in_ms, seen_ms)
             VALUES ($1, $2, $3, $4, $4)",
            params![chance.id(), secret.hashed().as_str(), account, now],
        )?;
        Ok(secret)
    }

    /// The live session that a cookie names.
    pub fn find(tx: &Tx<'_>, cookie: &str, now: Millis) -> Result<Option<Session>, DbError> {
        tx.first(
            "SELECT s.sid, s.account, s.signed_in_ms, s.seen_ms
             FROM sessions s JOIN accounts a ON a.id = s.account
             WHERE s.secret_hash = $1 AND s.ended_ms IS NULL AND a.disabled_ms IS NULL
               AND s.seen_ms > $2 AND s.signed_in_ms > $3",
            params![Hashed::of(cookie).as_str(), now - SESSION_IDLE, now - SESSION_LIFE],
            |row| {
                Ok(Session {
                    sid: row.get(0)?,
                    account: row.get(1)?,
                    signed_in: row.get(2)?,
                    seen: row.get(3)?,
                })
            },
        )
    }

    /// Whether the session of that `sid` is still live.
    pub fn is_live(tx: &Tx<'_>, sid: &str, now: Millis) -> Result<bool, DbError> {
        let sql = "SELECT 1 FROM sessions WHERE sid = $1 AND ended_ms IS NULL AND seen_ms > $2 AND signed_in_ms > $3";
        let found =
            tx.first(sql, params![sid, now - SESSION_IDLE, now - SESSION_LIFE], |r| r.get::<i64>(0))?;
        Ok(found.is_some())
    }

    /// Forgets those that ended before `then`, some at a time.
    pub fn forget(tx: &Tx<'_>, then: Millis) -> Result<(), DbError> {
        let sql = "DELETE FROM sessions WHERE sid IN
                   (SELECT sid FROM sessions WHERE signed_in_ms < $1 ORDER BY signed_in_ms, sid LIMIT 1000)";
        tx.execute(sql, params![then - SESSION_LIFE]).map(drop)
    }

    /// Whether it is time to write down that the session was used.
    pub fn is_stale(&self, now: Millis) -> bool {
        now - self.seen >= SEEN_EVERY
    }

    /// Writes down that the session was used.
    pub fn touch(tx: &Tx<'_>, sid: &str, now: Millis) -> Result<(), DbError> {
        tx.execute("UPDATE sessions SET seen_ms = $2 WHERE sid = $1", params![sid, now]).map(drop)
    }

    /// The `sid` of the session that a cookie names, unless it was ended: one that only ran out counts too.
    pub fn sid_of(tx: &Tx<'_>, cookie: &str) -> Result<Option<String>, DbError> {
        let sql = "SELECT sid FROM sessions WHERE secret_hash = $1 AND ended_ms IS NULL";
        tx.first(sql, params![Hashed::of(cookie).as_str()], |row| row.get(0))
    }

    /// Ends a session and what was granted for its time, and has the apps told that signed the person in
    /// during it. Whether there was one to end.
    pub fn end(tx: &Tx<'_>, sid: &str, now: Millis) -> Result<bool, DbError> {
        let sql = "UPDATE sessions SET ended_ms = $2 WHERE sid = $1 AND ended_ms IS NULL RETURNING sid";
        let ended = tx.first(sql, params![sid, now], |row| row.get::<String>(0))?.is_some();
        if ended {
            Grant::end_with_session(tx, sid, now)?;
            logout_notices::keep(tx, sid, now)?;
        }
        Ok(ended)
    }
}

/// Tokens that tie a form to the browser, the session and the page it was shown to.
#[derive(Clone)]
pub struct Csrf(Mac);

impl Csrf {
    /// The tokens under this master key.
    pub fn new(master: &MasterKey) -> Self {
        Csrf(Mac::new(master, "csrf"))
    }

    /// The token for one page of one browser; `sid` is the session's, if there is one.
    pub fn token(&self, browser: &str, sid: Option<&str>, page: &str) -> String {
        self.0.tag(&[browser, sid.unwrap_or(""), page])
    }

    /// Whether a posted token is the one that [`Csrf::token`] gave.
    pub fn accepts(&self, posted: &str, browser: &str, sid: Option<&str>, page: &str) -> bool {
        self.0.verify(&[browser, sid.unwrap_or(""), page], posted)
    }
}
