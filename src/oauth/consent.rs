//! What a person need not be asked again. It only decides whether the consent page is shown: every launch
//! makes a grant of its own, and a remembered consent grants nothing.
//!
//! Remembered is what a person allowed a confidential app: by itself where that was only who they are, and
//! otherwise where they ticked the box. A public app could be anybody who knows its `client_id`.

use super::client::Client;
use super::client_metadata::Metadata;
use super::request::{Prompt, Request};
use super::step::{self, Present, Step};
use crate::clock::Millis;
use crate::params;
use crate::smart::cover;
use crate::smart::scope::{self, Meaning, Scope};
use crate::store::db::{DbError, Row, Tx};

/// What a person need not be asked again.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// By which app.
    pub client: String,
    /// About which patient's record, where it is about one.
    pub patient: Option<String>,
    /// For what, or less.
    pub scope: String,
    /// Since when.
    pub since: Millis,
}

const COLUMNS: &str = "client, patient, scopes, since_ms";

impl Remembered {
    fn read(row: &Row<'_>) -> Result<Remembered, DbError> {
        let patient: String = row.get(1)?;
        Ok(Remembered {
            client: row.get(0)?,
            patient: Some(patient).filter(|p| !p.is_empty()),
            scope: row.get(2)?,
            since: row.get(3)?,
        })
    }

    /// What a person need not be asked again about this patient (`None`: about nobody in particular).
    fn find(
        tx: &Tx<'_>,
        account: &str,
        client: &str,
        patient: Option<&str>,
    ) -> Result<Option<Remembered>, DbError> {
        let sql =
            format!("SELECT {COLUMNS} FROM consents WHERE account = $1 AND client = $2 AND patient = $3");
        tx.first(&sql, params![account, client, patient.unwrap_or_default()], Remembered::read)
    }

    /// All that a person need not be asked again.
    pub fn of(tx: &Tx<'_>, account: &str) -> Result<Vec<Remembered>, DbError> {
        let sql =
            format!("SELECT {COLUMNS} FROM consents WHERE account = $1 ORDER BY since_ms, client, patient");
        tx.all(&sql, params![account], Remembered::read)
    }

    /// What it is for.
    pub fn scopes(&self) -> Vec<Scope> {
        Scope::list(&self.scope)
    }
}

/// The next step of `request` for whoever is signed in: consent is done where it need not be asked again.
pub fn next(
    tx: &Tx<'_>,
    request: &Request,
    client: &Client,
    present: Option<Present<'_>>,
) -> Result<Step, DbError> {
    let (Step::Consent(context), Some(person)) = (step::next(request, present), present) else {
        return Ok(step::next(request, present));
    };
    let known = Remembered::find(tx, &person.account.id, &client.id, context.patient.as_deref())?;
    let covered = known.is_some_and(|known| is_covered(request, &client.metadata, &known));
    Ok(if covered { Step::Done(context) } else { Step::Consent(context) })
}

/// Whether the request still need not be asked about, in the transaction that answers it.
pub fn holds(tx: &Tx<'_>, request: &Request, account: &str, patient: Option<&str>) -> Result<bool, DbError> {
    let Some(client) = Client::find(tx, &request.client)? else { return Ok(false) };
    let known = Remembered::find(tx, account, &client.id, patient)?;
    Ok(known.is_some_and(|known| is_covered(request, &client.metadata, &known)))
}

/// Whether the request lies within what is remembered of this app, person and patient.
fn is_covered(request: &Request, app: &Metadata, known: &Remembered) -> bool {
    let (held, asked) = (known.scopes(), request.asked.scopes());
    app.token_endpoint_auth_method.proves()
        && !request.asked.prompt.contains(&Prompt::Consent)
        && !outlives_the_person(&asked)
        && asked.iter().all(|scope| cover::covers(&held, scope))
}

/// Access that goes on without the person is never given without asking them.
fn outlives_the_person(scopes: &[Scope]) -> bool {
    scopes.iter().any(|s| s.meaning == Meaning::OfflineAccess)
}

fn is_identity(scopes: &[Scope]) -> bool {
    scopes.iter().all(Scope::is_identity)
}

/// Whether the person may tick "do not ask again" for this request.
pub fn may_tick(app: &Metadata, asked: &[Scope]) -> bool {
    app.token_endpoint_auth_method.proves() && !is_identity(asked) && !outlives_the_person(asked)
}

/// Whether the person will not be asked again by itself, since the app only asks who they are.
pub fn by_itself(app: &Metadata, scopes: &[Scope]) -> bool {
    app.token_endpoint_auth_method.proves() && is_identity(scopes)
}

/// A decision on the page.
pub struct Decision<'a> {
    /// Who decided.
    pub account: &'a str,
    /// The patient the page was about.
    pub about: Option<&'a str>,
    /// The patient of the grant: none where nothing of the record was granted.
    pub patient: Option<&'a str>,
    /// What was granted.
    pub granted: &'a [Scope],
    /// Whether "do not ask again" was ticked.
    pub ticked: bool,
}

/// Remembers a decision, or forgets what was remembered before: the newest counts alone.
pub fn decided(tx: &Tx<'_>, client: &Client, decision: &Decision<'_>, now: Millis) -> Result<(), DbError> {
    let Decision { account, about, patient, granted, ticked } = decision;
    for patient in [about, patient] {
        let sql = "DELETE FROM consents WHERE account = $1 AND client = $2 AND patient = $3";
        tx.execute(sql, params![*account, &client.id, patient.unwrap_or_default()])?;
    }
    if by_itself(&client.metadata, granted) || *ticked && may_tick(&client.metadata, granted) {
        let sql =
            "INSERT INTO consents (account, client, patient, scopes, since_ms) VALUES ($1, $2, $3, $4, $5)";
        let patient = patient.unwrap_or_default();
        tx.execute(sql, params![*account, &client.id, patient, scope::join(granted), now])?;
    }
    Ok(())
}

/// Forgets all that a person need not be asked again by an app: they disconnected it, or said no.
pub fn forget(tx: &Tx<'_>, account: &str, client: &str) -> Result<usize, DbError> {
    tx.execute("DELETE FROM consents WHERE account = $1 AND client = $2", params![account, client])
}

/// Forgets everybody's consent where a changed app is not the one they knew: another name or picture, other
/// redirect URIs, or another way of proving who it is. Deleting an app forgets by itself.
pub fn app_changed(tx: &Tx<'_>, client: &str, before: &Metadata, after: &Metadata) -> Result<(), DbError> {
    let face = |m: &Metadata| (m.client_name.clone(), m.logo_uri.clone(), m.redirect_uris.clone());
    let proof = |m: &Metadata| (m.token_endpoint_auth_method, m.application_type);
    if face(before) == face(after) && proof(before) == proof(after) {
        return Ok(());
    }
    tx.execute("DELETE FROM consents WHERE client = $1", params![client]).map(drop)
}
