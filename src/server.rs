//! How a server is put together: from settings to a running [`App`], and one table of all its addresses.

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::{App, Server};
use crate::clock::{Chance, Clock, DAY, Millis};
use crate::config::{Mode, Policy};
use crate::crypto::{CryptoError, Mac, MasterKey};
use crate::events;
use crate::fetch::Fetcher;
use crate::fhir::{api, index, resource};
use crate::identity::session::{Csrf, Session};
use crate::limits::Limits;
use crate::oauth::client_keys::ClientKeys;
use crate::oauth::code::Code;
use crate::oauth::grant::Grant;
use crate::oauth::keys::{KeyError, Keys};
use crate::oauth::request::Request;
use crate::oauth::{
    access_token, assertion, authorize, introspect, invitation, metadata, par, proofs, pushed, refresh,
    register, revoke, token,
};
use crate::oidc::{logout, logout_notices, userinfo};
use crate::params;
use crate::sandbox::{launcher, people};
use crate::smart::launch::Launch;
use crate::store::db::{DbError, Store, Verdict};
use crate::web::{account, answer, app_secrets, apps, cors, form, home, steps};

/// The largest body read anywhere, bytes.
const LARGEST_BODY: usize = 256 * 1024;
/// How long events of reads may wait before they are written.
const FLUSH: Duration = Duration::from_millis(50);
/// How many flushes lie between two rounds of forgetting: a minute.
const FLUSHES_TO_FORGET: u32 = 1_200;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error("{0}")]
    Store(#[from] DbError),
    /// The signing keys cannot be used.
    #[error("{0}")]
    Keys(#[from] KeyError),
    /// The master key cannot be used.
    #[error("the master key ({0}): {1}")]
    Master(String, CryptoError),
    /// The key file cannot be read or made.
    #[error("the key file {0}: {1}")]
    KeyFile(String, std::io::Error),
    /// The key file is gone, and with it what opens the signing keys.
    #[error(
        "the key file {0} is missing, and the signing keys in the database are sealed with it; put it back, or \
         give its text as HEARTHGATE_KEY"
    )]
    KeyFileLost(String),
    /// Nothing outside can be called.
    #[error("calls to apps cannot be made: {0}")]
    Calls(String),
    /// The database was made for the other mode.
    #[error("this database was made in {0} mode and stays so; use another file for {1} mode")]
    OtherMode(String, &'static str),
}

/// What a server is made from.
pub struct Parts {
    /// P.
    pub issuer: String,
    /// What it is for.
    pub mode: Mode,
    /// Where its data is.
    pub store: Store,
    /// The text of the master key, where it does not come from the key file.
    pub master: Option<String>,
    /// What time it is.
    pub clock: Clock,
    /// Where random bytes come from.
    pub chance: Chance,
    /// How long a signing key signs; for good where there is none.
    pub key_rotation: Option<Millis>,
}

/// Puts a server together: stamps or checks the database's mode, loads keys and, in the sandbox, its people.
/// A key that takes long to make is made on a thread of its own; who needs it waits for it.
pub fn assemble(parts: Parts) -> Result<App, StartError> {
    let Parts { issuer, mode, store, master, clock, chance, key_rotation } = parts;
    stamp(&store, mode)?;
    let master = master_key(&store, master, &chance)?;
    let (csrf, cursors) = (Csrf::new(&master), Mac::new(&master, "cursor"));
    let successors = Mac::new(&master, "refresh successor");
    let mut keys = Keys::load(store.clone(), master, chance.clone())?;
    let unmade = keys.begin(clock.now())?;
    let base = format!("{issuer}/fhir");
    remember(&store, "public_url", &issuer)?;
    let policy = Policy::from(mode);
    if policy.shared_password {
        people::load(&store, &base, clock.now(), &chance)?;
    }
    let reindexed = index::bring_up_to_date(&store, &base, resource::owner_of)?;
    if reindexed > 0 {
        tracing::info!(resources = reindexed, "indexed all resources anew");
    }
    let app = App::new(Server {
        csrf,
        cursors,
        successors,
        proofs: proofs::Used::new(clock.now()),
        reads: events::Queue::default(),
        client_keys: ClientKeys::default(),
        fetcher: Fetcher::new(policy.calls_near).map_err(|e| StartError::Calls(e.to_string()))?,
        limits: Limits::new(policy.spares_loopback, &clock, &chance),
        issuer,
        policy,
        store,
        clock,
        chance,
        keys,
        key_rotation,
    });
    if let Some(unmade) = unmade {
        let app = app.clone();
        std::thread::spawn(move || {
            if let Err(e) = app.keys.make_missing(unmade, app.now()) {
                tracing::error!(cause = %e, "a signing key could not be made; it is tried again in a minute");
            }
        });
    }
    Ok(app)
}

/// The master key: from its text, or from the key file, which the first start makes.
pub fn master_key(store: &Store, text: Option<String>, chance: &Chance) -> Result<MasterKey, StartError> {
    match text {
        Some(text) => MasterKey::from_text(&text).map_err(|e| StartError::Master("HEARTHGATE_KEY".into(), e)),
        None => master_from_file(store, chance),
    }
}

/// A setting that the server itself remembers.
fn remember(store: &Store, name: &'static str, value: &str) -> Result<(), DbError> {
    let value = value.to_owned();
    store.write_blocking(move |tx| {
        let sql = "INSERT INTO settings (name, value) VALUES ($1, $2)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        tx.execute(sql, params![name, value]).map(|_| Verdict::Commit(()))
    })
}

/// A database belongs to the mode it was made in: a sandbox's open door must never open onto real records.
fn stamp(store: &Store, mode: Mode) -> Result<(), StartError> {
    let stamped: String = store.write_blocking(move |tx| {
        let sql = "INSERT INTO settings (name, value) VALUES ('mode', $1) ON CONFLICT DO NOTHING";
        tx.execute(sql, params![mode.as_str()])?;
        let kept = tx.first("SELECT value FROM settings WHERE name = 'mode'", &[], |row| row.get(0))?;
        Ok(Verdict::Commit(kept.unwrap_or_default()))
    })?;
    if stamped == mode.as_str() { Ok(()) } else { Err(StartError::OtherMode(stamped, mode.as_str())) }
}

/// The key file beside the database, made at the first start, readable by its owner alone.
fn master_from_file(store: &Store, chance: &Chance) -> Result<MasterKey, StartError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = store.key_path();
    let shown = path.display().to_string();
    let broken = |e| StartError::KeyFile(shown.clone(), e);
    if !path.exists() && Keys::are_kept(store)? {
        return Err(StartError::KeyFileLost(shown));
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let master = MasterKey::new(chance);
            file.write_all(master.to_text().as_bytes()).and_then(|()| file.sync_all()).map_err(broken)?;
            Ok(master)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let text = std::fs::read_to_string(&path).map_err(broken)?;
            MasterKey::from_text(&text).map_err(|e| StartError::Master(shown.clone(), e))
        }
        Err(e) => Err(broken(e)),
    }
}

/// Every address of this server.
pub fn routes(app: App) -> Router {
    let fhir = Router::new()
        .route("/.well-known/smart-configuration", get(metadata::smart_configuration))
        .route("/.well-known/openid-configuration", get(metadata::openid_configuration))
        .route("/metadata", get(api::metadata))
        .route("/{type}/{id}", get(api::read).fallback(api::wrong_method))
        .route("/{type}/_search", post(api::search_by_post).fallback(api::wrong_method))
        .route("/{type}", get(api::search).fallback(api::wrong_method))
        .fallback(api::nothing);
    let open_fhir = Router::new()
        .route("/metadata", get(api::open_metadata))
        .route("/{type}/{id}", get(api::open_read).fallback(api::wrong_method))
        .route("/{type}/_search", post(api::open_search_by_post).fallback(api::wrong_method))
        .route("/{type}", get(api::open_search).fallback(api::wrong_method))
        .fallback(api::open_nothing);
    let mut routes = Router::new()
        // For apps
        .route("/.well-known/openid-configuration", get(metadata::openid_configuration))
        .route("/.well-known/oauth-authorization-server", get(metadata::openid_configuration))
        .route("/oauth/jwks", get(metadata::jwks))
        .route("/oauth/authorize", get(authorize::get).post(authorize::post))
        .route("/oauth/par", post(par::post).fallback(form::wrong_method))
        .route("/oauth/token", post(token::post).fallback(form::wrong_method))
        .route("/oauth/register", post(register::post).fallback(form::wrong_method))
        .route(
            "/oauth/register/{client_id}",
            get(register::read).put(register::replace).delete(register::delete),
        )
        .route("/oauth/introspect", post(introspect::post).fallback(form::wrong_method))
        .route("/oauth/revoke", post(revoke::post).fallback(form::wrong_method))
        .route("/oauth/userinfo", get(userinfo::userinfo).post(userinfo::userinfo))
        .nest("/fhir", fhir)
        // For people
        .route("/", get(home::show))
        .route("/static/{file}", get(home::file))
        .route("/oauth/authorize/{id}", get(steps::show).post(steps::submit))
        .route("/oauth/logout", get(logout::get).post(logout::post))
        .route("/account", get(account::show).post(account::sign_in))
        .route("/account/sign-out", post(account::sign_out))
        .route("/account/disconnect/{client_id}", post(account::disconnect))
        .route("/apps", get(apps::list))
        .route("/apps/new", get(apps::new).post(apps::register))
        .route("/apps/{client_id}", get(apps::show))
        .route("/apps/{client_id}/edit", get(apps::edit).post(apps::save))
        .route("/apps/{client_id}/secret", get(app_secrets::confirm_new).post(app_secrets::make))
        .route("/apps/{client_id}/secret/end", get(app_secrets::confirm_end).post(app_secrets::end))
        .route("/apps/{client_id}/delete", get(apps::confirm_delete).post(apps::delete))
        // For operations
        .route("/healthz", get(|| async { "ok" }));
    if app.policy.open_twin {
        routes = routes.nest("/open/fhir", open_fhir);
    }
    if app.policy.shared_password {
        routes = routes.route("/sandbox/people", get(people::list));
    }
    if app.policy.launch_simulator {
        let launches = post(launcher::post).fallback(form::wrong_method);
        routes = routes.route("/sandbox/launches", launches);
    }
    routes
        .fallback(any(home::nothing))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(axum::middleware::from_fn_with_state(app.clone(), answer::in_our_form))
        .layer(axum::middleware::from_fn_with_state(app.clone(), cors::layer))
        .layer(CatchPanicLayer::new())
        .with_state(app)
}

/// What is done beside answering, until the task is dropped: events are written, apps told of sign-outs, what is
/// long over forgotten, and the signing keys looked after.
pub async fn keep_house(app: App) {
    tokio::join!(write_and_forget(app.clone()), logout_notices::send(app));
}

async fn write_and_forget(app: App) {
    let mut rounds = 0_u32;
    loop {
        tokio::time::sleep(FLUSH).await;
        if let Err(e) = app.reads.flush(&app.store).await {
            tracing::error!(cause = %e, "events of reads could not be written; they wait");
        }
        rounds = (rounds + 1) % FLUSHES_TO_FORGET;
        if rounds != 0 {
            continue;
        }
        if let Err(e) = forget(&app).await {
            tracing::error!(cause = %e, "what is long over could not be forgotten; it stays");
        }
        if let Err(e) = look_after_keys(&app).await {
            tracing::error!(cause = %e, "signing keys could not be looked after; they stay as they are");
        }
    }
}

/// Removes requests, launches, codes, tokens and sessions that ended more than a day ago, and what backend services had.
/// What people granted stays, and so do events.
pub async fn forget(app: &App) -> Result<(), DbError> {
    let then = app.now() - DAY;
    app.store
        .write(move |tx| {
            Request::forget(tx, then)?;
            pushed::forget(tx, then)?;
            proofs::forget(tx, then)?;
            Code::forget(tx, then)?;
            Launch::forget(tx, then)?;
            access_token::forget(tx, then)?;
            refresh::forget(tx, then)?;
            assertion::forget(tx, then)?;
            invitation::forget(tx, then)?;
            Grant::forget_services(tx, then)?;
            Session::forget(tx, then).map(Verdict::Commit)
        })
        .await
}

/// Turns the signing keys that have signed for long enough, and removes those that are long out of use.
pub async fn look_after_keys(app: &App) -> Result<(), KeyError> {
    let (app, now) = (app.clone(), app.now());
    let done = tokio::task::spawn_blocking(move || app.keys.look_after(app.key_rotation, now));
    done.await.map_err(|_| DbError::Panicked)?
}
