//! `P/oauth/authorize/{id}`: the pages a person sees on the way from an app and back, all at one address.
//!
//! Whatever the person does (reload, go back, open a second tab), the address shows the request's present step.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::answer::{error_redirect, see_other};
use super::browser::{Caller, SignedIn, Visitor};
use super::page::{self, link};
use super::views::{self, Face, Person};
use super::{allow, choose, choose_encounter, consent, login, switch};
use crate::app::{App, Server};
use crate::error::{Code, Problem, forbidden, not_found};
use crate::events::{Event, Kind};
use crate::identity::account::Account;
use crate::oauth::client::Client;
use crate::oauth::consent as memory;
use crate::oauth::params::Params;
use crate::oauth::request::Request;
use crate::oauth::step::{self, Present, Step};
use crate::store::db::Verdict;

/// The present step's page.
pub async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = Params::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    match show_step(&app, &id, &query, &headers).await {
        Ok(answer) => answer,
        Err(problem) => page::problem(&app, &problem),
    }
}

/// The present step's form.
pub async fn submit(
    State(app): State<App>,
    Path(id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match take_step(&app, &id, caller, &headers, &body).await {
        Ok(answer) => answer,
        Err(problem) => page::problem(&app, &problem),
    }
}

/// A launch on its way: the request, its app, and who is at the browser.
struct Launch {
    request: Request,
    client: Client,
    visitor: Visitor,
    /// The person who launched the app from an EHR.
    launcher: Option<Account>,
}

/// What a visit finds: the launch, or a page that says why there is none any more.
enum Visit {
    Open(Box<Launch>),
    Over(Response),
}

async fn visit(app: &App, id: &str, headers: &HeaderMap) -> Result<Visit, Problem> {
    let visitor = Visitor::from_headers(app, headers).await?;
    let found = app.store.read(|tx| {
        let Some(request) = Request::find(tx, id)? else { return Ok(None) };
        let client = Client::find(tx, &request.client)?;
        let launcher = match &request.asked.launched {
            Some(launched) => Account::find(tx, &launched.account)?,
            None => None,
        };
        Ok(Some((request, client, launcher)))
    })?;
    let Some((request, client, launcher)) = found else {
        return Err(not_found("there is no such sign-in; go back to the app and start again"));
    };
    let Some(client) = client else {
        return Err(not_found("the app that asked for this is no longer registered here"));
    };
    if !client.metadata.allows_redirect(&request.asked.redirect_uri) {
        return Err(forbidden(
            "the app no longer has the redirect URI that this was begun with; start again from the app",
        ));
    }
    let browser = visitor.hash();
    match &request.browser {
        Some(bound) if bound != browser.as_str() => {
            return Err(forbidden("this sign-in was begun in another browser; start again from the app"));
        }
        Some(_) => {}
        None => {
            let id = request.id.clone();
            app.store
                .write(move |tx| Request::bind(tx, &id, browser.as_str()).map(|()| Verdict::Commit(())))
                .await?;
        }
    }
    let mut ways = ways_back(&client);
    if request.answered.is_some() {
        ways.push(link("See and end what you allowed", "/account"));
        let lead = format!(
            "You have answered {} already. You can close this page, or start again from the app.",
            views::isolate(&client.metadata.client_name)
        );
        return Ok(Visit::Over(page::notice(app, StatusCode::OK, "This is done", &lead, ways)));
    }
    if app.now() >= request.expires {
        let lead =
            "For your safety a sign-in stays open for half an hour. Go back to the app and start again.";
        return Ok(Visit::Over(page::notice(app, StatusCode::GONE, "This took too long", lead, ways)));
    }
    Ok(Visit::Open(Box::new(Launch { request, client, visitor, launcher })))
}

/// The way back to an app that no redirect leads to any more.
fn ways_back(client: &Client) -> Vec<views::Link> {
    client.metadata.initiate_login_uri.iter().map(|uri| link("Go to the app", uri)).collect()
}

/// Who is present, as far as the next step depends on it.
pub fn present(signed_in: &SignedIn) -> Present<'_> {
    Present {
        account: &signed_in.account,
        acts_for: &signed_in.acts_for,
        signed_in: signed_in.session.signed_in,
    }
}

async fn show_step(app: &App, id: &str, query: &Params, headers: &HeaderMap) -> Result<Response, Problem> {
    let launch = match visit(app, id, headers).await? {
        Visit::Open(launch) => launch,
        Visit::Over(answer) => return Ok(answer),
    };
    let Launch { request, client, visitor, launcher } = launch.as_ref();
    let next = next_step(app, request, client, visitor)?;
    let action = format!("/oauth/authorize/{}", request.id);
    let sign_in_page = || login::show(app, visitor, &sign_in_place(&action, &launch), "", None);
    let answer = match (&visitor.signed_in, next) {
        // "Not you?": sign in as somebody else, though somebody is signed in.
        _ if query.all("switch").next().is_some() => sign_in_page()?,
        (None, _) | (_, Step::SignIn) => sign_in_page()?,
        (Some(person), Step::SwitchPerson) => {
            let wanted = launcher.as_ref().map_or("", |account| &account.username);
            switch::show(app, visitor, person, client, request, wanted)
        }
        (Some(_), Step::RecordClosed) => {
            let lead =
                "You may no longer open the record that this app was launched for. Nothing was shared.";
            page::notice(app, StatusCode::FORBIDDEN, "This record is closed to you", lead, ways_back(client))
        }
        (Some(person), Step::ChoosePatient) => {
            choose::show(app, visitor, person, client, request, query, None).await?
        }
        (Some(person), Step::ChooseEncounter { patient }) => {
            choose_encounter::show(app, visitor, person, client, request, &patient, None).await?
        }
        (Some(person), Step::Consent(context)) => {
            consent::show(app, visitor, person, client, request, &context)?
        }
        (Some(person), Step::Done(context)) => {
            let issued = allow::silently(app, person, client, request, context).await?;
            see_other(&issued.unwrap_or(action))
        }
    };
    Ok(visitor.remember(app, answer))
}

/// What whoever is at the browser must do next.
fn next_step(app: &App, request: &Request, client: &Client, visitor: &Visitor) -> Result<Step, Problem> {
    let present = visitor.signed_in.as_ref().map(present);
    Ok(app.store.read(|tx| memory::next(tx, request, client, present))?)
}

/// The sign-in page of a request.
fn sign_in_place<'a>(action: &'a str, launch: &'a Launch) -> login::Place<'a> {
    let Launch { request, client, visitor, launcher } = launch;
    let launcher = launcher.as_ref();
    let is_launcher = |s: &SignedIn| launcher.is_none_or(|account| account.id == s.account.id);
    let present = visitor.signed_in.as_ref();
    let may_stay =
        |s: &&SignedIn| is_launcher(s) && request.asked.accepts_sign_in(s.session.signed_in, request.created);
    let username = launcher.map(|account| account.username.as_str());
    login::Place {
        page: &request.id,
        action,
        client: Some(client),
        expected: username.or(request.asked.login_hint.as_deref()),
        wanted: username.filter(|_| present.is_some_and(|s| !is_launcher(s))),
        stay: present.filter(may_stay).map(|_| action),
    }
}

async fn take_step(
    app: &App,
    id: &str,
    caller: Caller,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Problem> {
    let form = Params::parse(body)?;
    let launch = match visit(app, id, headers).await? {
        Visit::Open(launch) => launch,
        Visit::Over(answer) => return Ok(answer),
    };
    let Launch { request, client, visitor, .. } = launch.as_ref();
    // What is remembered plays no part here: a form that was posted is the newer decision.
    let next = step::next(request, visitor.signed_in.as_ref().map(present));
    let csrf = form.one("csrf")?;
    let saw_consent = matches!(&next, Step::Consent(context)
        if visitor.may_post(app, &consent::page_name(request, context), csrf));
    if !saw_consent && !visitor.may_post(app, &request.id, csrf) {
        let (now, client_id) = (app.now(), request.client.clone());
        app.store
            .write(move |tx| {
                let event = Event::new(Kind::FormRefused, now).client(client_id);
                event.refused("no form token, or another page's").insert(tx).map(Verdict::Commit)
            })
            .await?;
        let lead = "It was open for too long, or somebody else signed in here since. Nothing was done.";
        let on = link("Go on from where you are", format!("/oauth/authorize/{}", request.id));
        return Ok(page::notice(app, StatusCode::FORBIDDEN, "This page is out of date", lead, vec![on]));
    }
    if form.one("cancel")?.is_some() {
        return deny(app, request).await;
    }
    if form.one("username")?.is_some() || form.one("person")?.is_some() {
        let action = format!("/oauth/authorize/{}", request.id);
        let place = sign_in_place(&action, &launch);
        return login::sign_in(app, caller, visitor, &place, &form, &action).await;
    }
    let stay = see_other(&format!("/oauth/authorize/{}", request.id));
    // What an EHR launch was made for is chosen already.
    let chooses = request.asked.launched.as_ref().is_none_or(|launched| launched.patient.is_none());
    match (&visitor.signed_in, next) {
        (None, _) | (_, Step::SignIn | Step::SwitchPerson | Step::RecordClosed) => Ok(stay),
        (Some(person), _) if chooses && form.all("patient").next().is_some() => {
            choose::choose(app, visitor, person, client, request, &form).await
        }
        (Some(person), Step::ChooseEncounter { patient }) => {
            choose_encounter::choose(app, visitor, person, client, request, &patient, &form).await
        }
        (Some(person), Step::Consent(context)) if saw_consent && form.one("decision")?.is_some() => {
            consent::decide(app, person, client, request, context, &form).await
        }
        _ => Ok(stay),
    }
}

/// The person said no: the request is over, and the app is told.
pub async fn deny(app: &App, request: &Request) -> Result<Response, Problem> {
    let (id, client, now) = (request.id.clone(), request.client.clone(), app.now());
    let first = app
        .store
        .write(move |tx| {
            let first = Request::answer(tx, &id, now)?;
            Event::new(Kind::Consent, now).client(client).refused("the person said no").insert(tx)?;
            Ok(if first { Verdict::Commit(true) } else { Verdict::Rollback(false) })
        })
        .await?;
    if !first {
        return Ok(see_other(&format!("/oauth/authorize/{}", request.id)));
    }
    let problem = Problem::new(Code::AccessDenied, "the person did not allow it");
    let asked = &request.asked;
    Ok(see_other(&error_redirect(app, &asked.redirect_uri, asked.state.as_deref(), &problem)))
}

/// An app as its pages show it.
pub fn app_view(server: &Server, client: &Client) -> views::App {
    let name = client.metadata.client_name.clone();
    views::App {
        face: Face::of_app(&name, client.metadata.logo_uri.clone()),
        name,
        note: server
            .policy
            .open_registration
            .then(|| "Its developer registered this app in the sandbox; nobody has reviewed it.".into()),
    }
}

/// The signed-in person as the pages show them.
pub fn person_view(person: &SignedIn) -> Person {
    Person { face: Face::of(&person.account.name), name: person.account.name.clone(), about: String::new() }
}
