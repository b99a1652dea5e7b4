//! `POST /oauth/register`: an app registers itself (RFC 7591 3.1); `/oauth/register/{client_id}`: it reads, replaces
//! and deletes what it registered (RFC 7592 2).

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::client::Client;
use super::client_metadata::Approved;
use super::invitation;
use super::management::{self, Admission, Manager};
use super::registration;
use crate::app::{App, Server};
use crate::error::{Code, Problem, invalid_client_metadata, invalid_token};
use crate::limits::Door;
use crate::web::answer;
use crate::web::bearer::{self, Refused};
use crate::web::browser::Caller;
use crate::web::cors;

/// A new app.
pub async fn post(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match register(&app, caller, query.as_deref(), &headers, &body).await {
        Ok(body) => answer::private_json(StatusCode::CREATED, &Value::Object(body)),
        Err(refused) => refused.answer(answer::oauth),
    }
}

async fn register(
    app: &App,
    caller: Caller,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Map<String, Value>, Refused> {
    let admission = admitted(app, query, headers)?;
    let approved = admission.invitation.as_ref().map_or_else(Approved::default, |i| i.approved);
    let sent = metadata(headers, body)?;
    let metadata =
        registration::check(&sent, &app.policy, approved).map_err(|e| registration::problem(&e))?;
    if admission.invitation.is_none() {
        app.limits.admit(Door::Registration, caller.0, "")?;
    }
    let registered = management::register(&app.store, metadata, admission, app.now(), &app.chance).await?;
    let at = client_uri(app, &registered.client.id);
    Ok(registered.client.registration(&at, &registered.manage.reveal(), registered.secret))
}

/// Whether the caller may register an app: anybody where registration is open, else who was invited.
fn admitted(app: &App, query: Option<&str>, headers: &HeaderMap) -> Result<Admission, Refused> {
    let Some(token) = bearer::registration_token(headers, query)? else {
        if app.policy.open_registration {
            return Ok(Admission::default());
        }
        return Err(Refused::without_token(
            "apps are registered here by invitation; ask the people who run this server for an initial access \
             token (`hearthgate app invite`), and send it as `Authorization: Bearer …`",
        ));
    };
    let now = app.now();
    let invitation = app.store.read(|tx| invitation::find(tx, &token, now))?;
    let invitation = invitation.ok_or_else(management::not_invited)?;
    Ok(Admission { invitation: Some(invitation), browser: None })
}

/// What an app registered.
pub async fn read(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let found = managed(&app, &id, query.as_deref(), &headers).await;
    let answered = found.map(|(token, client)| answer_with(&app, &client, &token, None));
    for_app(id, answered)
}

/// Everything anew: what is not sent is no longer registered.
pub async fn replace(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let changed = async {
        let (token, client) = managed(&app, &id, query.as_deref(), &headers).await?;
        let sent = metadata(&headers, &body)?;
        is_its_own(&app, &client, &sent)?;
        let metadata = registration::check(&sent, &app.policy, client.approved)
            .map_err(|e| registration::problem(&e))?;
        let manager = Manager::Token(token.clone());
        let changed = management::change(&app.store, &id, manager, metadata, app.now(), &app.chance).await?;
        let (client, secret) = changed.ok_or_else(not_its_token)?;
        Ok(answer_with(&app, &client, &token, secret))
    };
    let answered = changed.await;
    for_app(id, answered)
}

/// The app is gone, and all it was granted ends.
pub async fn delete(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let removed = async {
        let (token, _) = managed(&app, &id, query.as_deref(), &headers).await?;
        if management::remove(&app.store, &id, Manager::Token(token), app.now()).await? {
            return Ok((StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-store")]).into_response());
        }
        Err(not_its_token().into())
    };
    match removed.await {
        Ok(answer) => answer,
        Err(refused) => Refused::answer(&refused, answer::oauth),
    }
}

/// The app, with the registration access token that was presented for it. Of an app that is not there the same is
/// said as of one whose token is another.
async fn managed(
    app: &App,
    id: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<(String, Client), Refused> {
    let Some(token) = bearer::registration_token(headers, query)? else {
        return Err(Refused::without_token(
            "send the app's registration access token as `Authorization: Bearer …`; it came with the answer to \
             its registration",
        ));
    };
    let manager = Manager::Token(token.clone());
    if let Some(client) = app.store.read(|tx| manager.app(tx, id))? {
        return Ok((token, client));
    }
    management::note_refusal(&app.store, id, app.now()).await?;
    Err(not_its_token().into())
}

fn not_its_token() -> Problem {
    invalid_token("this is not the registration access token of an app with that client_id")
}

/// The client metadata in a body.
fn metadata(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Problem> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !sent.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json")) {
        let words = "send the metadata as JSON with `Content-Type: application/json`";
        return Err(Problem::new(Code::UnsupportedMediaType, words));
    }
    let sent: Value = serde_json::from_slice(body)
        .map_err(|e| invalid_client_metadata(format!("the body is not JSON: {e}")))?;
    match sent {
        Value::Object(sent) => Ok(sent),
        _ => Err(invalid_client_metadata("the body must be a JSON object of client metadata")),
    }
}

/// What stands in every answer and may not be sent back (RFC 7592 2.2).
const OURS: [&str; 4] = [
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
];

/// Whether a replacement names the app it is for, and chooses nothing that only the server gives.
fn is_its_own(server: &Server, client: &Client, sent: &Map<String, Value>) -> Result<(), Problem> {
    if sent.get("client_id").and_then(Value::as_str) != Some(&client.id) {
        let words = "`client_id` must be sent, and be the one in the address";
        return Err(invalid_client_metadata(words).at("client_id"));
    }
    if let Some(name) = OURS.into_iter().find(|name| sent.contains_key(*name)) {
        let words = format!("`{name}` is given by the server; leave it out of the replacement");
        return Err(invalid_client_metadata(words).at(name));
    }
    let Some(secret) = sent.get("client_secret") else { return Ok(()) };
    let presented = secret.as_str().unwrap_or_default();
    if server.store.read(|tx| Client::secret(tx, &client.id, presented))?.is_some() {
        return Ok(());
    }
    let words = "`client_secret` is none of this app's; leave it out, since a secret cannot be chosen";
    Err(invalid_client_metadata(words).at("client_secret"))
}

fn client_uri(server: &Server, id: &str) -> String {
    server.url(&format!("/oauth/register/{id}"))
}

fn answer_with(
    server: &Server,
    client: &Client,
    token: &str,
    secret: Option<crate::crypto::Secret>,
) -> Response {
    let body = client.registration(&client_uri(server, &client.id), token, secret);
    answer::private_json(StatusCode::OK, &Value::Object(body))
}

/// An answer that only pages of that app may read.
fn for_app(id: String, answered: Result<Response, Refused>) -> Response {
    match answered {
        Ok(answer) => cors::answer_for(id, answer),
        Err(refused) => refused.answer(answer::oauth),
    }
}
