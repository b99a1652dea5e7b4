//! An app: what it registered, its secrets, who manages it.

use serde_json::{Map, Value, json};

use super::client_metadata::Metadata;
use crate::clock::{Chance, Millis};
use crate::crypto::{Hashed, Secret};
use crate::events::{Event, Kind};
use crate::params;
use crate::store::db::{DbError, Store, Tx, Verdict};

/// A registered app.
#[derive(Clone, Debug)]
pub struct Client {
    /// The `client_id`.
    pub id: String,
    /// What it registered.
    pub metadata: Metadata,
    /// When (for `client_id_issued_at`).
    pub created: Millis,
}

const COLUMNS: &str = "id, metadata, created_ms";

impl Client {
    fn read(row: &crate::store::db::Row<'_>) -> Result<Client, DbError> {
        Ok(Client { id: row.get(0)?, metadata: row.json(1)?, created: row.get(2)? })
    }

    /// The app of that id.
    pub fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Client>, DbError> {
        tx.first(&format!("SELECT {COLUMNS} FROM clients WHERE id = $1"), params![id], Client::read)
    }

    /// Keeps a new app. `manage` is the hash of what its developer manages it with.
    pub fn insert(&self, tx: &Tx<'_>, manage: &Hashed) -> Result<(), DbError> {
        tx.execute(
            "INSERT INTO clients (id, metadata, manage_hash, created_ms) VALUES ($1, $2, $3, $4)",
            params![&self.id, json!(self.metadata).to_string(), manage.as_str(), self.created],
        )?;
        keep_origins(tx, &self.id, &self.metadata)
    }

    /// Gives the app one more live secret.
    pub fn add_secret(&self, tx: &Tx<'_>, secret: &Hashed, now: Millis) -> Result<(), DbError> {
        add_secret(tx, &self.id, secret, now)
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
            "SELECT c.id, c.metadata, c.created_ms FROM clients c JOIN client_managers m ON m.client = c.id
             WHERE m.browser_hash = $1 ORDER BY c.created_ms, c.id",
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
        tx.execute("UPDATE clients SET metadata = $2 WHERE id = $1", params![id, text])?;
        keep_origins(tx, id, metadata)
    }

    /// Replaces every secret by this one, or by none.
    pub fn replace_secret(
        tx: &Tx<'_>,
        id: &str,
        secret: Option<&Hashed>,
        now: Millis,
    ) -> Result<(), DbError> {
        tx.execute("DELETE FROM client_secrets WHERE client = $1", params![id])?;
        match secret {
            Some(hash) => add_secret(tx, id, hash, now),
            None => Ok(()),
        }
    }

    /// Forgets the app. What it was granted is ended by `Grant::end_all_of`.
    pub fn delete(tx: &Tx<'_>, id: &str) -> Result<(), DbError> {
        tx.execute("DELETE FROM clients WHERE id = $1", params![id]).map(drop)
    }

    /// The registration answer of RFC 7591 3.2.1; the secret is in it where one was just made.
    pub fn registration(&self, secret: Option<Secret>) -> Map<String, Value> {
        let mut answer = Map::new();
        answer.insert("client_id".into(), json!(self.id));
        answer.insert("client_id_issued_at".into(), json!(self.created / crate::clock::SECOND));
        if let Some(secret) = secret {
            answer.insert("client_secret".into(), json!(secret.reveal()));
            answer.insert("client_secret_expires_at".into(), json!(0));
        }
        if let Value::Object(metadata) = json!(self.metadata) {
            answer.extend(metadata);
        }
        answer
    }
}

fn add_secret(tx: &Tx<'_>, client: &str, secret: &Hashed, now: Millis) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO client_secrets (client, hash, created_ms) VALUES ($1, $2, $3)",
        params![client, secret.as_str(), now],
    )
    .map(drop)
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

/// A new app, with what is shown of it this once.
pub struct Registered {
    /// The app.
    pub client: Client,
    /// Its secret, if it has one.
    pub secret: Option<Secret>,
    /// What its developer manages it with.
    pub manage: Secret,
}

/// Gives an app its id and secrets and keeps it.
pub async fn register(
    store: &Store,
    metadata: Metadata,
    now: Millis,
    chance: &Chance,
) -> Result<Registered, DbError> {
    let client = Client { id: chance.id(), metadata, created: now };
    let secret = client.metadata.token_endpoint_auth_method.has_secret().then(|| Secret::new("", chance));
    let manage = Secret::new("hg_manage_", chance);
    let (kept, secret_hash, manage_hash) =
        (client.clone(), secret.as_ref().map(Secret::hashed), manage.hashed());
    store
        .write(move |tx| {
            kept.insert(tx, &manage_hash)?;
            if let Some(hash) = secret_hash {
                kept.add_secret(tx, &hash, now)?;
            }
            Event::new(Kind::AppRegistered, now).client(kept.id.clone()).insert(tx)?;
            Ok(Verdict::Commit(()))
        })
        .await?;
    Ok(Registered { client, secret, manage })
}
