//! `P/account`: a person's own page: the apps they let in, and the way to end that (`management_endpoint`).

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::answer::see_other;
use super::browser::{Caller, SignedIn, Visitor};
use super::login::{self, Place};
use super::page;
use super::steps::{app_view, person_view};
use super::views::{self, Connected};
use crate::app::App;
use crate::clock::Millis;
use crate::error::{Problem, forbidden};
use crate::events::{Event, Kind};
use crate::fhir::demographics::{self, date_in_words};
use crate::fhir::resource::{Resource, instant};
use crate::identity::session::Session;
use crate::oauth::client::Client;
use crate::oauth::consent::{self, Remembered};
use crate::oauth::grant::Grant;
use crate::oauth::params::Params;
use crate::smart::scope::{Meaning, Scope};
use crate::smart::words;
use crate::store::db::Verdict;

const HERE: &str = "/account";
/// What a person may do is told by at most this many lines an app.
const MOST_LINES: usize = 12;

type Page = Result<Response, Problem>;

/// The page, or first the sign-in.
pub async fn show(State(app): State<App>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let made: Page = async {
        let query = Params::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
        let visitor = Visitor::from_headers(&app, &headers).await?;
        let answer = match &visitor.signed_in {
            None => login::show(&app, &visitor, &place(), "", None)?,
            Some(person) => {
                let done = query.all("disconnected").next().is_some();
                overview(&app, &visitor, person, done)?
            }
        };
        Ok(visitor.remember(&app, answer))
    }
    .await;
    made.unwrap_or_else(|problem| page::problem(&app, &problem))
}

fn place() -> Place<'static> {
    Place { page: HERE, action: HERE, client: None, expected: None, wanted: None, stay: None }
}

/// Signing in at this page.
pub async fn sign_in(State(app): State<App>, caller: Caller, headers: HeaderMap, body: Bytes) -> Response {
    let made: Page = async {
        let (visitor, form) = posted(&app, &headers, &body).await?;
        login::sign_in(&app, caller, &visitor, &place(), &form, HERE).await
    }
    .await;
    made.unwrap_or_else(|problem| page::problem(&app, &problem))
}

/// Signing out: the session ends on the server, and what was granted for its time only ends with it.
pub async fn sign_out(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let made: Page = async {
        let (visitor, _) = posted(&app, &headers, &body).await?;
        if let Some(person) = &visitor.signed_in {
            let (sid, account, now) = (person.session.sid.clone(), person.account.id.clone(), app.now());
            app.store
                .write(move |tx| {
                    Session::end(tx, &sid, now)?;
                    Event::new(Kind::SignOut, now).account(account).insert(tx).map(Verdict::Commit)
                })
                .await?;
        }
        Ok(see_other("/"))
    }
    .await;
    made.unwrap_or_else(|problem| page::problem(&app, &problem))
}

/// Ends everything the person granted one app.
pub async fn disconnect(
    State(app): State<App>,
    Path(client_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made: Page = async {
        let (visitor, _) = posted(&app, &headers, &body).await?;
        let Some(person) = &visitor.signed_in else { return Ok(see_other(HERE)) };
        let (account, now) = (person.account.id.clone(), app.now());
        let ended = app
            .store
            .write(move |tx| {
                let ended = Grant::disconnect(tx, &account, &client_id, now)?
                    + consent::forget(tx, &account, &client_id)?;
                let event = Event::new(Kind::GrantEnded, now).client(client_id).account(account);
                event.why("the person disconnected the app").insert(tx)?;
                Ok(Verdict::Commit(ended))
            })
            .await?;
        Ok(see_other(if ended > 0 { "/account?disconnected=1" } else { HERE }))
    }
    .await;
    made.unwrap_or_else(|problem| page::problem(&app, &problem))
}

async fn posted(app: &App, headers: &HeaderMap, body: &Bytes) -> Result<(Visitor, Params), Problem> {
    let visitor = Visitor::from_headers(app, headers).await?;
    let form = Params::parse(body)?;
    if visitor.may_post(app, HERE, form.one("csrf")?) {
        return Ok((visitor, form));
    }
    Err(forbidden(
        "this page is out of date, or was opened in another browser; go back, reload it and try again",
    ))
}

fn overview(app: &App, visitor: &Visitor, person: &SignedIn, disconnected: bool) -> Page {
    let now = app.now();
    let apps = app.store.read(|tx| {
        let grants = Grant::connected(tx, &person.account.id, now)?;
        let remembered = Remembered::of(tx, &person.account.id)?;
        let mut ids: Vec<&str> = Vec::new();
        for id in grants.iter().map(|(g, _)| &g.client).chain(remembered.iter().map(|r| &r.client)) {
            if !ids.contains(&id.as_str()) {
                ids.push(id);
            }
        }
        let mut shown = Vec::new();
        for id in ids {
            let Some(client) = Client::find(tx, id)? else { continue };
            let grants: Vec<_> = grants.iter().filter(|(g, _)| g.client == id).cloned().collect();
            let remembered: Vec<_> = remembered.iter().filter(|r| r.client == id).cloned().collect();
            let mut records = Vec::new();
            let patients = grants.iter().map(|(grant, _)| &grant.patient);
            for patient in patients.chain(remembered.iter().map(|r| &r.patient)).flatten() {
                let resource = Resource::find(tx, "Patient", patient)?;
                let name = resource.and_then(|r| demographics::name(&r.parsed()));
                let name = name.unwrap_or_else(|| patient.clone());
                if !records.contains(&name) {
                    records.push(name);
                }
            }
            shown.push(Known { client, grants, remembered, records });
        }
        Ok(shown)
    })?;
    let page = views::Account {
        shell: page::shell(app, HERE),
        csrf: visitor.csrf(app, HERE),
        person: views::Person {
            about: format!("signed in as {}", person.account.username),
            ..person_view(person)
        },
        sign_out: "/account/sign-out".into(),
        notice: disconnected.then(|| "The app is disconnected. What it held works no more.".into()),
        apps: apps.into_iter().map(|known| connected(app, known)).collect(),
    };
    Ok(page::render(&page))
}

/// An app that a person let in: what it holds now, and what they need not be asked again.
struct Known {
    client: Client,
    /// With when each was last used.
    grants: Vec<(Grant, Millis)>,
    remembered: Vec<Remembered>,
    /// The names of the patients.
    records: Vec<String>,
}

fn connected(app: &App, known: Known) -> Connected {
    let Known { client, grants, remembered, records } = known;
    let granted: Vec<Scope> = grants.iter().flat_map(|(grant, _)| grant.scopes()).collect();
    let stays = granted.iter().any(|s| s.meaning == Meaning::OfflineAccess);
    let unasked: Vec<Scope> = remembered.iter().flat_map(Remembered::scopes).collect();
    let day = |at: Millis| date_in_words(&instant(at));
    let since = grants.iter().map(|(grant, _)| grant.created).chain(remembered.iter().map(|r| r.since)).min();
    Connected {
        app: views::App { note: None, ..app_view(app, &client) },
        records: if records.is_empty() { vec!["no patient’s in particular".into()] } else { records },
        may: titles(&granted),
        unasked: titles(&unasked),
        since: day(since.unwrap_or_default()),
        last_used: grants.iter().map(|(_, used)| *used).max().map(day),
        until: if stays { "you disconnect it".into() } else { "it runs out by itself, soon".into() },
        disconnect: format!("/account/disconnect/{}", client.id),
    }
}

/// Scopes in plain words, each once.
fn titles(scopes: &[Scope]) -> Vec<String> {
    let mut titles = Vec::new();
    for scope in scopes {
        let title = words::of(scope).title;
        if !titles.contains(&title) {
            titles.push(title);
        }
    }
    let more = titles.len().saturating_sub(MOST_LINES);
    titles.truncate(MOST_LINES);
    if more > 0 {
        titles.push(format!("and {more} more"));
    }
    titles
}
