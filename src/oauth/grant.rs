//! What a person granted an app: the thing that is revoked. Codes and tokens only point to it.

use crate::clock::Millis;
use crate::error::{Problem, invalid_grant};
use crate::identity::account::Account;
use crate::params;
use crate::smart::launch::LaunchContext;
use crate::smart::scope::{Meaning, Scope};
use crate::store::db::{DbError, Row, Tx};

/// A grant.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Its id; events refer to it.
    pub id: String,
    /// To which app.
    pub client: String,
    /// By whom.
    pub account: Option<String>,
    /// The patient in context.
    pub patient: Option<String>,
    /// The encounter in context.
    pub encounter: Option<String>,
    /// What else an EHR launch told.
    pub context: Option<LaunchContext>,
    /// What its access tokens are good at: `P/fhir`, or `P/oauth/userinfo`.
    pub audience: String,
    /// What was granted, as text.
    pub scope: String,
    /// The session it was granted in.
    pub session: Option<String>,
    /// When the person had signed in: `auth_time`.
    pub signed_in: Option<Millis>,
    /// What ties together everything that is known of its launch.
    pub trace: String,
    /// When it was granted.
    pub created: Millis,
    /// When and why it ended.
    pub ended: Option<(Millis, String)>,
}

pub(super) const COLUMNS: &str = "g.id, g.client, g.account, g.patient, g.encounter, g.audience, g.scopes, g.session, \
     g.signed_in_ms, g.trace, g.created_ms, g.ended_ms, g.ended_why, g.context";

/// How many columns [`COLUMNS`] has.
pub(super) const WIDTH: usize = 14;

impl Grant {
    /// Reads [`COLUMNS`] from the first column on.
    pub(super) fn read(row: &Row<'_>) -> Result<Grant, DbError> {
        let ended: Option<Millis> = row.get(11)?;
        let why: Option<String> = row.get(12)?;
        let context: Option<String> = row.get(13)?;
        Ok(Grant {
            id: row.get(0)?,
            client: row.get(1)?,
            account: row.get(2)?,
            patient: row.get(3)?,
            encounter: row.get(4)?,
            context: context.map(|text| LaunchContext::read(&text)).transpose()?,
            audience: row.get(5)?,
            scope: row.get(6)?,
            session: row.get(7)?,
            signed_in: row.get(8)?,
            trace: row.get(9)?,
            created: row.get(10)?,
            ended: ended.map(|at| (at, why.unwrap_or_default())),
        })
    }

    /// Keeps a new grant.
    pub fn insert(&self, tx: &Tx<'_>) -> Result<(), DbError> {
        tx.execute(
            "INSERT INTO grants (id, client, account, patient, encounter, audience, scopes, session,
                                 signed_in_ms, trace, created_ms, context)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            params![
                &self.id,
                &self.client,
                self.account.as_deref(),
                self.patient.as_deref(),
                self.encounter.as_deref(),
                &self.audience,
                &self.scope,
                self.session.as_deref(),
                self.signed_in,
                &self.trace,
                self.created,
                self.context.as_ref().map(LaunchContext::to_text)
            ],
        )
        .map(drop)
    }

    /// The grant of that id, ended or not.
    pub fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Grant>, DbError> {
        tx.first(&format!("SELECT {COLUMNS} FROM grants g WHERE g.id = $1"), params![id], Grant::read)
    }

    /// Ends it; every token of it is dead from now on. The first reason stays.
    pub fn end(tx: &Tx<'_>, id: &str, now: Millis, why: &str) -> Result<(), DbError> {
        tx.execute(
            "UPDATE grants SET ended_ms = $2, ended_why = $3 WHERE id = $1 AND ended_ms IS NULL",
            params![id, now, why],
        )
        .map(drop)
    }

    /// What a person granted and can still be used, the newest first: a token of it lives.
    pub fn connected(tx: &Tx<'_>, account: &str, now: Millis) -> Result<Vec<(Grant, Millis)>, DbError> {
        let sql = format!(
            "SELECT {COLUMNS}, coalesce((SELECT max(t.issued_ms) FROM access_tokens t WHERE t.grant_id = g.id), g.created_ms)
             FROM grants g
             WHERE g.account = $1 AND g.ended_ms IS NULL
               AND (EXISTS (SELECT 1 FROM access_tokens t WHERE t.grant_id = g.id AND t.expires_ms > $2)
                    OR EXISTS (SELECT 1 FROM refresh_tokens t
                               WHERE t.grant_id = g.id AND t.expires_ms > $2 AND t.used_ms IS NULL))
             ORDER BY g.created_ms DESC, g.id"
        );
        tx.all(&sql, params![account, now], |row| Ok((Grant::read(row)?, row.get(WIDTH)?)))
    }

    /// Ends everything a person granted an app.
    pub fn disconnect(tx: &Tx<'_>, account: &str, client: &str, now: Millis) -> Result<usize, DbError> {
        tx.execute(
            "UPDATE grants SET ended_ms = $3, ended_why = 'the person disconnected the app'
             WHERE account = $1 AND client = $2 AND ended_ms IS NULL",
            params![account, client, now],
        )
    }

    /// What was granted in a session, ended or not.
    pub fn of_session(tx: &Tx<'_>, sid: &str) -> Result<Vec<Grant>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM grants g WHERE g.session = $1 ORDER BY g.id");
        tx.all(&sql, params![sid], Grant::read)
    }

    /// Ends what was granted in a session, but for what was to outlive it (`offline_access`).
    pub fn end_with_session(tx: &Tx<'_>, sid: &str, now: Millis) -> Result<(), DbError> {
        for grant in Grant::of_session(tx, sid)? {
            if !grant.outlives_sessions() {
                Grant::end(tx, &grant.id, now, "the session it was granted in ended")?;
            }
        }
        Ok(())
    }

    /// Ends everything an app was granted.
    pub fn end_all_of(tx: &Tx<'_>, client: &str, now: Millis, why: &str) -> Result<(), DbError> {
        tx.execute(
            "UPDATE grants SET ended_ms = $2, ended_why = $3 WHERE client = $1 AND ended_ms IS NULL",
            params![client, now, why],
        )
        .map(drop)
    }

    /// The person behind it, as long as they may sign in and open the record it is about: a delegate's
    /// access ends with their right, not with the token.
    pub fn person(&self, tx: &Tx<'_>, now: Millis) -> Result<Result<Account, Problem>, DbError> {
        let account = match &self.account {
            Some(id) => Account::find(tx, id)?.filter(|a| !a.disabled),
            None => None,
        };
        let Some(account) = account else {
            return Ok(Err(invalid_grant("the person can no longer sign in here")));
        };
        let acts_for = Account::acts_for(tx, &account.id, now)?;
        if self.patient.as_ref().is_none_or(|patient| account.may_open(&acts_for, patient)) {
            return Ok(Ok(account));
        }
        Ok(Err(invalid_grant("the person may no longer open this patient's record; launch again")))
    }

    /// Whether it goes on when the person signs out: they were told that it lasts until they disconnect the app.
    pub fn outlives_sessions(&self) -> bool {
        self.scopes().iter().any(|s| s.meaning == Meaning::OfflineAccess)
    }

    /// What was granted.
    pub fn scopes(&self) -> Vec<Scope> {
        Scope::list(&self.scope)
    }
}
