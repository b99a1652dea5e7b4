//! `P/`: what this server is, and the way in for each kind of visitor; and the static files.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::login::signer;
use super::page;
use super::views::{Call, Home};
use crate::app::App;
use crate::config::SANDBOX_PASSWORD;
use crate::error::Problem;
use crate::identity::account::Account;

/// The page.
pub async fn show(State(app): State<App>) -> Response {
    match render(&app) {
        Ok(answer) => answer,
        Err(problem) => page::problem(&app, &problem),
    }
}

fn render(app: &App) -> Result<Response, Problem> {
    let sandbox = app.policy.shared_password;
    let people = if sandbox { app.store.read(Account::own_people)? } else { Vec::new() };
    let call = |request: &str, what: &str| Call { request: request.into(), what: what.into() };
    let machine = if sandbox {
        vec![
            call("GET /sandbox/people", "everyone who can sign in, as JSON"),
            call("POST /sandbox/launches", "launch an app as an EHR does, with a record open"),
            call("POST /oauth/register", "register an app (RFC 7591)"),
        ]
    } else {
        Vec::new()
    };
    let fhir = app.fhir_base();
    let page = Home {
        shell: page::shell(app, "/"),
        discovery: format!("{fhir}/.well-known/smart-configuration"),
        fhir,
        open_fhir: app.policy.open_twin.then(|| app.url("/open/fhir")),
        register: app.policy.open_registration.then(|| "/apps/new".into()),
        developer_links: vec![page::link("Your apps", "/apps")],
        person_links: vec![page::link("See and end what you allowed", "/account")],
        machine,
        people: people.into_iter().map(signer).collect(),
        shared_word: SANDBOX_PASSWORD.into(),
    };
    Ok(page::render(&page))
}

/// Anything without an address of its own.
pub async fn nothing(State(app): State<App>) -> Response {
    page::problem(&app, &crate::error::not_found("this server has no page at this address"))
}

const FILES: [(&str, &str, &[u8]); 3] = [
    ("hearthgate.css", "text/css; charset=utf-8", include_bytes!("../../static/hearthgate.css")),
    ("hearthgate.js", "text/javascript; charset=utf-8", include_bytes!("../../static/hearthgate.js")),
    ("mark.svg", "image/svg+xml", include_bytes!("../../static/mark.svg")),
];

/// `GET /static/{file}`.
pub async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, bytes)) => {
            let headers = [
                (header::CONTENT_TYPE, *kind),
                (header::CACHE_CONTROL, "public, max-age=300"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, *bytes).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
