//! An app: what it registered, its secrets, who manages it.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use serde_json::{Map, Value, json};

use super::client_metadata::{Approved, Metadata};
use super::consent;
use crate::clock::Millis;
use crate::crypto::{Hashed, Secret};
use crate::params;
use crate::store::db::{DbError, Row, Tx};

/// A registered app.
#[derive(Clone, Debug)]
pub struct Client {
    /// The `client_id`.
    pub id: String,
    /// What it registered.
    pub metadata: Metadata,
    /// When (for `client_id_issued_at`).
    pub created: Millis,
    /// What it was allowed beyond what any app may register.
    pub approved: Approved,
}

/// A secret that works, told from the others of its app by a number that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSecret {
    /// The first secret of an app is 1.
    pub number: i64,
    /// When it was made.
    pub created: Millis,
}

const COLUMNS: &str = "c.id, c.metadata, c.created_ms, c.approved";

/// Metadata by its stored text. The text is read anew each time; only parsing it is spared, which takes much longer
/// than copying what came of it.
static PARSED: LazyLock<RwLock<HashMap<String, Metadata>>> = LazyLock::new(RwLock::default);
/// Neither more texts than this are remembered at once, nor longer ones, bytes.
const MOST_PARSED: usize = 1_000;
const LONGEST_PARSED: usize = 8 * 1024;

fn parsed(text: String) -> Result<Metadata, DbError> {
    if let Some(metadata) = PARSED.read().unwrap_or_else(PoisonError::into_inner).get(&text) {
        return Ok(metadata.clone());
    }
    let corrupt = |e: serde_json::Error| DbError::Corrupt(e.to_string());
    let metadata: Metadata = serde_json::from_str(&text).map_err(corrupt)?;
    if text.len() <= LONGEST_PARSED {
        let mut known = PARSED.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_PARSED {
            known.clear();
        }
        known.insert(text, metadata.clone());
    }
    Ok(metadata)
}

impl Client {
    fn read(row: &Row<'_>) -> Result<Client, DbError> {
        let metadata = parsed(row.get(1)?)?;
        Ok(Client { id: row.get(0)?, metadata, created: row.get(2)?, approved: row.json(3)? })
    }

    /// The app of that id.
    pub fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Client>, DbError> {
        tx.first(&format!("SELECT {COLUMNS} FROM clients c WHERE c.id = $1"), params![id], Client::read)
    }

    /// Keeps a new app. `manage` is the hash of what its developer manages it with.
    pub fn insert(&self, tx: &Tx<'_>, manage: &Hashed) -> Result<(), DbError> {
        tx.execute(
            "INSERT INTO clients (id, metadata, manage_hash, created_ms, approved) VALUES ($1, $2, $3, $4, $5)",
            params![
                &self.id,
                json!(self.metadata).to_string(),
                manage.as_str(),
                self.created,
                json!(self.approved).to_string()
            ],
        )?;
        keep_origins(tx, &self.id, &self.metadata)
    }

    /// Every app, in the order they were registered.
    pub fn all(tx: &Tx<'_>) -> Result<Vec<Client>, DbError> {
        tx.all(&format!("SELECT {COLUMNS} FROM clients c ORDER BY c.created_ms, c.id"), &[], Client::read)
    }

    /// Gives the app a new secret. The newest of the former ones stays live beside it, so that the app can change
    /// over; any older one ends.
    pub fn add_secret(tx: &Tx<'_>, id: &str, secret: &Hashed, now: Millis) -> Result<(), DbError> {
        let newest = Client::secrets(tx, id)?.first().map_or(0, |secret| secret.number);
        tx.execute(
            "INSERT INTO client_secrets (client, hash, created_ms, number) VALUES ($1, $2, $3, $4)",
            params![id, secret.as_str(), now, newest + 1],
        )?;
        let sql = "DELETE FROM client_secrets WHERE client = $1 AND number < $2";
        tx.execute(sql, params![id, newest]).map(drop)
    }

    /// The app's live secrets, the newest first.
    pub fn secrets(tx: &Tx<'_>, id: &str) -> Result<Vec<LiveSecret>, DbError> {
        let sql =
            "SELECT number, created_ms FROM client_secrets WHERE client = $1 ORDER BY number DESC, hash";
        tx.all(sql, params![id], |row| Ok(LiveSecret { number: row.get(0)?, created: row.get(1)? }))
    }

    /// Ends one secret, unless it is the app's last; whether it did.
    pub fn end_secret(tx: &Tx<'_>, id: &str, number: i64) -> Result<bool, DbError> {
        let sql = "DELETE FROM client_secrets WHERE client = $1 AND number = $2
                   AND EXISTS (SELECT 1 FROM client_secrets s WHERE s.client = $1 AND s.number > $2)";
        Ok(tx.execute(sql, params![id, number])? > 0)
    }

    /// Ends every secret of the app.
    pub fn end_secrets(tx: &Tx<'_>, id: &str) -> Result<(), DbError> {
        tx.execute("DELETE FROM client_secrets WHERE client = $1", params![id]).map(drop)
    }

    /// Which of the app's live secrets `presented` is.
    pub fn secret(tx: &Tx<'_>, id: &str, presented: &str) -> Result<Option<Hashed>, DbError> {
        let kept: Vec<String> =
            tx.all("SELECT hash FROM client_secrets WHERE client = $1", params![id], |row| row.get(0))?;
        // Every live secret is compared, so that the time does not tell which one matched.
        let found = kept.iter().fold(false, |found, hash| Hashed::matches(hash, presented) | found);
        Ok(found.then(|| Hashed::of(presented)))
    }

    /// Whether a secret is still one of the app's.
    pub fn still_has_secret(tx: &Tx<'_>, id: &str, secret: &Hashed) -> Result<bool, DbError> {
        let sql = "SELECT 1 FROM client_secrets WHERE client = $1 AND hash = $2";
        Ok(tx.first(sql, params![id, secret.as_str()], |row| row.get::<i64>(0))?.is_some())
    }

    /// Every app that this browser manages, in the order they were registered.
    pub fn managed_by(tx: &Tx<'_>, browser: &Hashed) -> Result<Vec<Client>, DbError> {
        tx.all(
            &format!(
                "SELECT {COLUMNS} FROM clients c JOIN client_managers m ON m.client = c.id
                 WHERE m.browser_hash = $1 ORDER BY c.created_ms, c.id"
            ),
            params![browser.as_str()],
            Client::read,
        )
    }

    /// Whether this browser manages the app.
    pub fn is_managed_by(tx: &Tx<'_>, id: &str, browser: &Hashed) -> Result<bool, DbError> {
        let sql = "SELECT 1 FROM client_managers WHERE client = $1 AND browser_hash = $2";
        Ok(tx.first(sql, params![id, browser.as_str()], |row| row.get::<i64>(0))?.is_some())
    }

    /// Lets this browser manage the app from now on.
    pub fn let_manage(tx: &Tx<'_>, id: &str, browser: &Hashed) -> Result<(), DbError> {
        let sql = "INSERT INTO client_managers (client, browser_hash) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        tx.execute(sql, params![id, browser.as_str()]).map(drop)
    }

    /// Whether `presented` is what the app's developer manages it with.
    pub fn opens(tx: &Tx<'_>, id: &str, presented: &str) -> Result<bool, DbError> {
        let sql = "SELECT manage_hash FROM clients WHERE id = $1";
        let kept: Option<String> = tx.first(sql, params![id], |row| row.get(0))?;
        Ok(kept.is_some_and(|hash| Hashed::matches(&hash, presented)))
    }

    /// Replaces the whole metadata; it holds at the next launch, and for every token at the next call.
    pub fn replace(tx: &Tx<'_>, id: &str, metadata: &Metadata) -> Result<(), DbError> {
        let text = json!(metadata).to_string();
        if let Some(before) = Client::find(tx, id)? {
            consent::app_changed(tx, id, &before.metadata, metadata)?;
        }
        tx.execute("UPDATE clients SET metadata = $2 WHERE id = $1", params![id, text])?;
        keep_origins(tx, id, metadata)
    }

    /// Forgets the app. What it was granted is ended by `Grant::end_all_of`.
    pub fn delete(tx: &Tx<'_>, id: &str) -> Result<(), DbError> {
        tx.execute("DELETE FROM clients WHERE id = $1", params![id]).map(drop)
    }

    /// The answer of RFC 7591 3.2.1 and RFC 7592 3. `manage` is the registration access token, `at` where it
    /// counts; the secret is in it where one was just made.
    pub fn registration(&self, at: &str, manage: &str, secret: Option<Secret>) -> Map<String, Value> {
        let mut answer = Map::new();
        answer.insert("client_id".into(), json!(self.id));
        answer.insert("client_id_issued_at".into(), json!(self.created / crate::clock::SECOND));
        if let Some(secret) = secret {
            answer.insert("client_secret".into(), json!(secret.reveal()));
            answer.insert("client_secret_expires_at".into(), json!(0));
        }
        answer.insert("registration_client_uri".into(), json!(at));
        answer.insert("registration_access_token".into(), json!(manage));
        if let Value::Object(metadata) = json!(self.metadata) {
            answer.extend(metadata);
        }
        answer
    }
}

fn keep_origins(tx: &Tx<'_>, client: &str, metadata: &Metadata) -> Result<(), DbError> {
    tx.execute("DELETE FROM client_origins WHERE client = $1", params![client])?;
    for origin in metadata.origins() {
        let sql = "INSERT INTO client_origins (origin, client) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        tx.execute(sql, params![origin, client])?;
    }
    Ok(())
}

/// Whether any app has this web origin among its redirect and launch URIs.
pub fn is_origin_of_any(tx: &Tx<'_>, origin: &str) -> Result<bool, DbError> {
    let sql = "SELECT 1 FROM client_origins WHERE origin = $1";
    Ok(tx.first(sql, params![origin], |row| row.get::<i64>(0))?.is_some())
}
