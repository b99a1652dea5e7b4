//! `P/apps`: a developer's apps, registered and changed by form.
//!
//! Whoever registers an app holds its management link, and their browser manages it; nobody else's does.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::answer::see_other;
use super::app_form::{Fields, Way};
use super::app_page::{self, Fresh};
use super::app_views;
use super::browser::{self, Caller, Visitor};
use super::page;
use super::views::{self, Confirm};
use crate::app::App;
use crate::crypto::Secret;
use crate::error::{Problem, forbidden, not_found};
use crate::limits::Door;
use crate::oauth::client::Client;
use crate::oauth::client_metadata::Approved;
use crate::oauth::management::{self, Admission, Manager};
use crate::oauth::params::Params;
use crate::oauth::registration::FieldError;
use crate::store::db::Verdict;

/// A page, or why there is none.
pub type Page = Result<Response, Problem>;

/// The page, or the page that says why there is none.
pub fn shown(app: &App, page: Page) -> Response {
    page.unwrap_or_else(|problem| page::problem(app, &problem))
}

/// `GET P/apps`: the apps this browser manages.
pub async fn list(State(app): State<App>, headers: HeaderMap) -> Response {
    let made: Page = async {
        let visitor = Visitor::from_headers(&app, &headers).await?;
        let browser = visitor.hash();
        let apps = app.store.read(|tx| Client::managed_by(tx, &browser))?;
        let page = app_views::Apps {
            shell: page::shell(&app, "/apps"),
            register: "/apps/new".into(),
            apps: apps.iter().map(app_page::card).collect(),
        };
        Ok(visitor.remember(&app, page::render(&page)))
    }
    .await;
    shown(&app, made)
}

/// `GET P/apps/new`: the empty form.
pub async fn new(State(app): State<App>, headers: HeaderMap) -> Response {
    let made: Page = async {
        open_to_registration(&app)?;
        let visitor = Visitor::from_headers(&app, &headers).await?;
        Ok(visitor.remember(&app, form_page(&app, &visitor, &Fields::new(), None, &[])))
    }
    .await;
    shown(&app, made)
}

/// `POST P/apps/new`: registers the app; its secret and its management link are shown this once.
pub async fn register(State(app): State<App>, caller: Caller, headers: HeaderMap, body: Bytes) -> Response {
    let made: Page = async {
        open_to_registration(&app)?;
        let (visitor, form) = posted(&app, &headers, &body, "/apps/new").await?;
        let fields = Fields::posted(&form);
        let metadata = match fields.check(&app.policy, Approved::default(), None) {
            Ok(metadata) => metadata,
            Err(errors) => return Ok(form_page(&app, &visitor, &fields, None, &errors)),
        };
        app.limits.admit(Door::Registration, caller.0, "")?;
        let admission = Admission { invitation: None, browser: Some(visitor.hash()) };
        let registered =
            management::register(&app.store, metadata, admission, app.now(), &app.chance).await?;
        let fresh =
            Fresh { secret: registered.secret.map(Secret::reveal), manage: Some(registered.manage.reveal()) };
        Ok(fresh.lead_to(&app, &registered.client.id))
    }
    .await;
    shown(&app, made)
}

/// `GET P/apps/{client_id}`: what was saved. With `?manage=…`, the management link, this browser manages
/// the app from now on.
pub async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let made: Page = async {
        let query = Params::parse(query.unwrap_or_default().as_bytes())?;
        if let Some(key) = query.one("manage")? {
            return open_management(&app, &id, key.to_owned(), &headers).await;
        }
        let (visitor, client) = managed(&app, &id, &headers).await?;
        let fresh = Fresh::from_headers(&headers);
        let was_fresh = fresh.secret.is_some() || fresh.manage.is_some();
        let secrets = app.store.read(|tx| Client::secrets(tx, &id))?;
        let answer = app_page::show(&app, &visitor, &client, &secrets, fresh);
        Ok(if was_fresh { browser::forget_shown(&app, answer, &format!("/apps/{id}")) } else { answer })
    }
    .await;
    shown(&app, made)
}

async fn open_management(app: &App, id: &str, key: String, headers: &HeaderMap) -> Page {
    let visitor = Visitor::from_headers(app, headers).await?;
    let (client, browser) = (id.to_owned(), visitor.hash());
    let holder = Manager::Token(key);
    let opened = app
        .store
        .write(move |tx| {
            let opens = holder.app(tx, &client)?.is_some();
            if opens {
                Client::let_manage(tx, &client, &browser)?;
            }
            Ok(Verdict::Commit(opens))
        })
        .await?;
    if opened { Ok(visitor.remember(app, see_other(&format!("/apps/{id}")))) } else { Err(not_yours()) }
}

/// `GET P/apps/{client_id}/edit`: the form as it was saved.
pub async fn edit(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let made: Page = async {
        let (visitor, client) = managed(&app, &id, &headers).await?;
        Ok(form_page(&app, &visitor, &Fields::saved(&client.metadata), Some(&id), &[]))
    }
    .await;
    shown(&app, made)
}

/// `POST P/apps/{client_id}/edit`: replaces the metadata; it holds at the next launch.
pub async fn save(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made: Page = async {
        let (visitor, form) = posted(&app, &headers, &body, &format!("/apps/{id}/edit")).await?;
        let (_, client) = managed(&app, &id, &headers).await?;
        let fields = Fields::posted(&form);
        let metadata = match fields.check(&app.policy, client.approved, Some(&client.metadata)) {
            Ok(metadata) => metadata,
            Err(errors) => return Ok(form_page(&app, &visitor, &fields, Some(&id), &errors)),
        };
        let manager = Manager::Browser(visitor.hash());
        let changed = management::change(&app.store, &id, manager, metadata, app.now(), &app.chance).await?;
        match changed.ok_or_else(not_yours)?.1 {
            None => Ok(see_other(&format!("/apps/{id}"))),
            Some(secret) => Ok(Fresh { secret: Some(secret.reveal()), manage: None }.lead_to(&app, &id)),
        }
    }
    .await;
    shown(&app, made)
}

/// `GET P/apps/{client_id}/delete`: is it meant?
pub async fn confirm_delete(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let made: Page = async {
        let (visitor, client) = managed(&app, &id, &headers).await?;
        let action = format!("/apps/{id}/delete");
        Ok(page::render(&Confirm {
            shell: page::shell(&app, ""),
            csrf: visitor.csrf(&app, &action),
            action,
            cancel: format!("/apps/{id}"),
            title: "Delete this app?".into(),
            lead: format!("{} will be gone for good.", views::isolate(&client.metadata.client_name)),
            consequences: vec![
                "It can no longer ask anybody for access.".into(),
                "Every token it holds stops working at once.".into(),
            ],
            hidden: None,
            keep: "Keep it".into(),
            button: "Delete the app".into(),
        }))
    }
    .await;
    shown(&app, made)
}

/// `POST P/apps/{client_id}/delete`: the app is gone, and all it was granted ends.
pub async fn delete(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made: Page = async {
        let (visitor, _) = posted(&app, &headers, &body, &format!("/apps/{id}/delete")).await?;
        let manager = Manager::Browser(visitor.hash());
        if !management::remove(&app.store, &id, manager, app.now()).await? {
            return Err(not_yours());
        }
        Ok(see_other("/apps"))
    }
    .await;
    shown(&app, made)
}

fn open_to_registration(app: &App) -> Result<(), Problem> {
    if app.policy.open_registration {
        return Ok(());
    }
    Err(forbidden(
        "apps are registered here by invitation; ask the people who run this server for an initial access token, \
         and register by POST /oauth/register with it",
    ))
}

/// There is no such app, or none that this browser manages.
pub fn not_yours() -> Problem {
    not_found(
        "there is no such app that this browser manages; open its management link, which was shown when it was registered",
    )
}

/// The app, if this browser manages it.
pub async fn managed(app: &App, id: &str, headers: &HeaderMap) -> Result<(Visitor, Client), Problem> {
    let visitor = Visitor::from_headers(app, headers).await?;
    let manager = Manager::Browser(visitor.hash());
    let client = app.store.read(|tx| manager.app(tx, id))?;
    Ok((visitor, client.ok_or_else(not_yours)?))
}

/// The form of a page that this browser was shown.
pub async fn posted(
    app: &App,
    headers: &HeaderMap,
    body: &Bytes,
    page: &str,
) -> Result<(Visitor, Params), Problem> {
    let visitor = Visitor::from_headers(app, headers).await?;
    let form = Params::parse(body)?;
    if visitor.may_post(app, page, form.one("csrf")?) {
        return Ok((visitor, form));
    }
    Err(forbidden(
        "this page is out of date, or was opened in another browser; go back, reload it and try again",
    ))
}

fn form_page(
    app: &App,
    visitor: &Visitor,
    fields: &Fields,
    id: Option<&str>,
    errors: &[FieldError],
) -> Response {
    let way = match id {
        None => Way { action: "/apps/new".into(), cancel: "/apps".into(), editing: false },
        Some(id) => Way { action: format!("/apps/{id}/edit"), cancel: format!("/apps/{id}"), editing: true },
    };
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let csrf = visitor.csrf(app, &way.action);
    page::render_with(status, &fields.page(page::shell(app, "/apps"), &app.policy, csrf, way, errors))
}
