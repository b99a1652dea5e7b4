//! Who may change an app, and how it is registered, changed and deleted: by form, by an app itself (RFC 7591,
//! RFC 7592) or on the command line, by the same rules. Each is one transaction, in which the right to it is
//! looked at again.

use super::client::Client;
use super::client_metadata::{Approved, Metadata};
use super::grant::Grant;
use super::invitation::{self, Invitation};
use crate::clock::{Chance, Millis};
use crate::crypto::{Hashed, Secret};
use crate::error::{Problem, invalid_token};
use crate::events::{Event, Kind};
use crate::store::db::{DbError, Store, Tx, Verdict};

/// What the secret begins with that an app is managed by: its registration access token, and the key of its
/// management link.
const MANAGE: &str = "hg_manage_";

/// Who asks to manage an app.
#[derive(Clone)]
pub enum Manager {
    /// Whoever presents this registration access token.
    Token(String),
    /// The browser whose cookie has this hash.
    Browser(Hashed),
}

impl Manager {
    /// The app of that id, if they may manage it.
    pub fn app(&self, tx: &Tx<'_>, id: &str) -> Result<Option<Client>, DbError> {
        let may = match self {
            Manager::Token(presented) => Client::opens(tx, id, presented)?,
            Manager::Browser(hash) => Client::is_managed_by(tx, id, hash)?,
        };
        if may { Client::find(tx, id) } else { Ok(None) }
    }
}

/// How somebody came to register an app.
#[derive(Default)]
pub struct Admission {
    /// The invitation they brought.
    pub invitation: Option<Invitation>,
    /// The browser in which the app is managed from now on.
    pub browser: Option<Hashed>,
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
///
/// # Errors
/// `invalid_token` where the invitation was used up in the meantime.
pub async fn register(
    store: &Store,
    metadata: Metadata,
    admission: Admission,
    now: Millis,
    chance: &Chance,
) -> Result<Registered, Problem> {
    let approved = admission.invitation.as_ref().map_or_else(Approved::default, |i| i.approved);
    let client = Client { id: chance.id(), metadata, created: now, approved };
    let secret = client.metadata.token_endpoint_auth_method.has_secret().then(|| Secret::new("", chance));
    let manage = Secret::new(MANAGE, chance);
    let (kept, secret_hash, manage_hash) =
        (client.clone(), secret.as_ref().map(Secret::hashed), manage.hashed());
    let admitted = store
        .write(move |tx| {
            if let Some(invitation) = &admission.invitation
                && !invitation::spend(tx, invitation, now)?
            {
                return Ok(Verdict::Rollback(false));
            }
            kept.insert(tx, &manage_hash)?;
            if let Some(hash) = secret_hash {
                Client::add_secret(tx, &kept.id, &hash, now)?;
            }
            if let Some(browser) = &admission.browser {
                Client::let_manage(tx, &kept.id, browser)?;
            }
            Event::new(Kind::AppRegistered, now).client(kept.id.clone()).insert(tx)?;
            Ok(Verdict::Commit(true))
        })
        .await?;
    if admitted { Ok(Registered { client, secret, manage }) } else { Err(not_invited()) }
}

/// The refusal of an initial access token that is none, or none any more.
pub fn not_invited() -> Problem {
    invalid_token("this initial access token is unknown, used up or too old; ask for a new one")
}

/// Replaces the whole metadata. An app that needs a secret now and had none gets one, which is answered; one that
/// needs none any more loses those it had. None where `manager` may not.
pub async fn change(
    store: &Store,
    id: &str,
    manager: Manager,
    metadata: Metadata,
    now: Millis,
    chance: &Chance,
) -> Result<Option<(Client, Option<Secret>)>, DbError> {
    let secret = Secret::new("", chance);
    let (id, hash) = (id.to_owned(), secret.hashed());
    let changed = store
        .write(move |tx| {
            let Some(client) = manager.app(tx, &id)? else { return Ok(Verdict::Rollback(None)) };
            Client::replace(tx, &id, &metadata)?;
            let needs = metadata.token_endpoint_auth_method.has_secret();
            let gets = needs && Client::secrets(tx, &id)?.is_empty();
            match (needs, gets) {
                (true, true) => Client::add_secret(tx, &id, &hash, now)?,
                (true, false) => {}
                (false, _) => Client::end_secrets(tx, &id)?,
            }
            Event::new(Kind::AppChanged, now).client(id).insert(tx)?;
            Ok(Verdict::Commit(Some((Client { metadata, ..client }, gets))))
        })
        .await?;
    Ok(changed.map(|(client, gets)| (client, gets.then_some(secret))))
}

/// A new secret; the newest of the former ones stays live beside it. None where `manager` may not, or where such
/// an app has no secrets.
pub async fn new_secret(
    store: &Store,
    id: &str,
    manager: Manager,
    now: Millis,
    chance: &Chance,
) -> Result<Option<Secret>, DbError> {
    let secret = Secret::new("", chance);
    let (id, hash) = (id.to_owned(), secret.hashed());
    let made = store
        .write(move |tx| {
            let client = manager.app(tx, &id)?;
            if !client.is_some_and(|client| client.metadata.token_endpoint_auth_method.has_secret()) {
                return Ok(Verdict::Rollback(false));
            }
            Client::add_secret(tx, &id, &hash, now)?;
            Event::new(Kind::AppChanged, now).client(id).why("new secret").insert(tx)?;
            Ok(Verdict::Commit(true))
        })
        .await?;
    Ok(made.then_some(secret))
}

/// Ends one of several secrets; the last one stays. False where `manager` may not.
pub async fn end_secret(
    store: &Store,
    id: &str,
    manager: Manager,
    number: i64,
    now: Millis,
) -> Result<bool, DbError> {
    let id = id.to_owned();
    store
        .write(move |tx| {
            if manager.app(tx, &id)?.is_none() {
                return Ok(Verdict::Rollback(false));
            }
            if Client::end_secret(tx, &id, number)? {
                Event::new(Kind::AppChanged, now).client(id).why("a secret was ended").insert(tx)?;
            }
            Ok(Verdict::Commit(true))
        })
        .await
}

/// Deletes the app, and ends all it was granted. False where `manager` may not.
pub async fn remove(store: &Store, id: &str, manager: Manager, now: Millis) -> Result<bool, DbError> {
    let id = id.to_owned();
    store
        .write(move |tx| {
            if manager.app(tx, &id)?.is_none() {
                return Ok(Verdict::Rollback(false));
            }
            delete(tx, &id, now).map(|()| Verdict::Commit(true))
        })
        .await
}

/// The same for whoever runs this server.
pub fn delete(tx: &Tx<'_>, id: &str, now: Millis) -> Result<(), DbError> {
    Grant::end_all_of(tx, id, now, "the app was deleted")?;
    Client::delete(tx, id)?;
    Event::new(Kind::AppDeleted, now).client(id.to_owned()).insert(tx)
}

/// Notes that somebody tried to manage an app with a token that is not its own.
pub async fn note_refusal(store: &Store, id: &str, now: Millis) -> Result<(), DbError> {
    let id = id.to_owned();
    store
        .write(move |tx| {
            let known = Client::find(tx, &id)?.map(|client| client.id);
            let event = Event::new(Kind::AppChanged, now).client(known);
            event.refused("a wrong registration access token").insert(tx).map(Verdict::Commit)
        })
        .await
}
