//! Authorization requests on their way: those that passed the checks and wait for a person.
//!
//! A request is bound to the first browser that visits its page; several may be open in one browser.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::{Chance, Millis};
use crate::config::REQUEST_LIFE;
use crate::params;
use crate::smart::launch::Launched;
use crate::smart::scope::{Level, Meaning, Scope};
use crate::store::db::{DbError, Row, Tx};

/// A scope that was asked for and cannot be granted, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// As it was asked for.
    pub scope: String,
    /// For the person and the app's developer.
    pub why: String,
    /// What was probably meant.
    pub meant: Option<String>,
}

/// `prompt` of OpenID Connect Core 3.1.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Show no page.
    None,
    /// Ask who it is, even if somebody is signed in.
    Login,
    /// Ask for consent; this server does in any case.
    Consent,
    /// Ask which person; the same as `login` here.
    SelectAccount,
}

/// What an app asked for, after every check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// Where the answer goes, as it was sent.
    pub redirect_uri: String,
    /// Echoed byte for byte.
    pub state: Option<String>,
    /// The scopes that can be granted, as asked and in that order.
    pub scope: String,
    /// The scopes that cannot.
    pub left_out: Vec<LeftOut>,
    /// What the access token will be good at.
    pub audience: String,
    /// PKCE's S256 challenge.
    pub challenge: Option<String>,
    /// For the id_token.
    pub nonce: Option<String>,
    /// Which pages must or must not be shown.
    pub prompt: Vec<Prompt>,
    /// The greatest age of the sign-in, seconds.
    pub max_age: Option<i64>,
    /// Whom the app expects.
    pub login_hint: Option<String>,
    /// The thumbprint of the key that the code is bound to (RFC 9449 10).
    #[serde(default)]
    pub dpop_jkt: Option<String>,
    /// The EHR launch it came with.
    #[serde(default)]
    pub launched: Option<Launched>,
}

impl Asked {
    /// What a request asks for before its checks have read any of it.
    pub fn nothing(redirect_uri: &str, state: Option<&str>) -> Asked {
        Asked {
            redirect_uri: redirect_uri.to_owned(),
            state: state.map(str::to_owned),
            scope: String::new(),
            left_out: Vec::new(),
            audience: String::new(),
            challenge: None,
            nonce: None,
            prompt: Vec::new(),
            max_age: None,
            login_hint: None,
            dpop_jkt: None,
            launched: None,
        }
    }

    /// The scopes that can be granted.
    pub fn scopes(&self) -> Vec<Scope> {
        Scope::list(&self.scope)
    }

    /// Whether a patient must be in context: asked for, or implied by a `patient/` scope.
    pub fn needs_patient(&self) -> bool {
        self.scopes().iter().any(|s| {
            s.is_at(Level::Patient) || matches!(s.meaning, Meaning::LaunchPatient | Meaning::LaunchEncounter)
        })
    }

    /// Whether an encounter was asked for.
    pub fn needs_encounter(&self) -> bool {
        self.scopes().iter().any(|s| s.meaning == Meaning::LaunchEncounter)
    }

    /// Whether a sign-in of that time is young enough for this request, made at `created`.
    pub fn accepts_sign_in(&self, signed_in: Millis, created: Millis) -> bool {
        let asks_again = self.prompt.contains(&Prompt::Login) || self.prompt.contains(&Prompt::SelectAccount);
        let oldest = match self.max_age {
            _ if asks_again => created,
            Some(seconds) => created.saturating_sub(seconds.saturating_mul(crate::clock::SECOND)),
            None => Millis::MIN,
        };
        signed_in >= oldest
    }
}

/// A request that waits for its person.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its address: `P/oauth/authorize/{id}`.
    pub id: String,
    /// Which app asks.
    pub client: String,
    /// What it asks for.
    pub asked: Asked,
    /// What ties together everything that is known of this launch.
    pub trace: String,
    /// The hash of the browser's cookie, once it was visited.
    pub browser: Option<String>,
    /// When it was made.
    pub created: Millis,
    /// When it ends.
    pub expires: Millis,
    /// Who made the choices below; they count for nobody else.
    pub chosen_by: Option<String>,
    /// The patient chosen.
    pub patient: Option<String>,
    /// The encounter chosen.
    pub encounter: Option<String>,
    /// When it was answered.
    pub answered: Option<Millis>,
}

const COLUMNS: &str = "id, client, asked, trace, browser_hash, created_ms, expires_ms, chosen_by, patient, encounter, answered_ms";

impl Request {
    fn read(row: &Row<'_>) -> Result<Request, DbError> {
        Ok(Request {
            id: row.get(0)?,
            client: row.get(1)?,
            asked: row.json(2)?,
            trace: row.get(3)?,
            browser: row.get(4)?,
            created: row.get(5)?,
            expires: row.get(6)?,
            chosen_by: row.get(7)?,
            patient: row.get(8)?,
            encounter: row.get(9)?,
            answered: row.get(10)?,
        })
    }

    /// A new request by `client`.
    pub fn new(client: &str, asked: Asked, trace: String, now: Millis, chance: &Chance) -> Request {
        Request {
            id: chance.id(),
            client: client.to_owned(),
            asked,
            trace,
            browser: None,
            created: now,
            expires: now + REQUEST_LIFE,
            chosen_by: None,
            patient: None,
            encounter: None,
            answered: None,
        }
    }

    /// Keeps it.
    pub fn insert(&self, tx: &Tx<'_>) -> Result<(), DbError> {
        tx.execute(
            "INSERT INTO requests (id, client, asked, trace, created_ms, expires_ms)
             VALUES ($1, $2, $3, $4, $5, $6)",
            params![
                &self.id,
                &self.client,
                json!(self.asked).to_string(),
                &self.trace,
                self.created,
                self.expires
            ],
        )
        .map(drop)
    }

    /// The request of that id, whatever its state.
    pub fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Request>, DbError> {
        tx.first(&format!("SELECT {COLUMNS} FROM requests WHERE id = $1"), params![id], Request::read)
    }

    /// Binds it to a browser, unless it is bound already.
    pub fn bind(tx: &Tx<'_>, id: &str, browser: &str) -> Result<(), DbError> {
        tx.execute(
            "UPDATE requests SET browser_hash = $2 WHERE id = $1 AND browser_hash IS NULL",
            params![id, browser],
        )
        .map(drop)
    }

    /// Writes down which patient somebody chose; an encounter chosen before is forgotten.
    pub fn choose_patient(tx: &Tx<'_>, id: &str, account: &str, patient: &str) -> Result<(), DbError> {
        tx.execute(
            "UPDATE requests SET chosen_by = $2, patient = $3, encounter = NULL
             WHERE id = $1 AND answered_ms IS NULL",
            params![id, account, patient],
        )
        .map(drop)
    }

    /// Writes down which of the patient's encounters somebody chose; '' is none of them.
    pub fn choose_encounter(
        tx: &Tx<'_>,
        id: &str,
        account: &str,
        patient: &str,
        encounter: &str,
    ) -> Result<(), DbError> {
        tx.execute(
            "UPDATE requests SET chosen_by = $2, patient = $3, encounter = $4
             WHERE id = $1 AND answered_ms IS NULL",
            params![id, account, patient, encounter],
        )
        .map(drop)
    }

    /// Forgets those that ended before `then`, some at a time.
    pub fn forget(tx: &Tx<'_>, then: Millis) -> Result<(), DbError> {
        let sql = "DELETE FROM requests WHERE id IN
                   (SELECT id FROM requests WHERE expires_ms < $1 ORDER BY expires_ms, id LIMIT 1000)";
        tx.execute(sql, params![then]).map(drop)
    }

    /// Consumes it: false where it was answered before, or is over.
    pub fn answer(tx: &Tx<'_>, id: &str, now: Millis) -> Result<bool, DbError> {
        let sql = "UPDATE requests SET answered_ms = $2
                   WHERE id = $1 AND answered_ms IS NULL AND expires_ms > $2 RETURNING id";
        Ok(tx.first(sql, params![id, now], |row| row.get::<String>(0))?.is_some())
    }
}
