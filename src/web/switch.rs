//! This launch is somebody else's: whoever is signed in may make way for them, or go back to the app.
//!
//! A handle signs nobody in, so the person it was made for is asked who they are. Whoever reads this page may be
//! the wrong one: it says their own name and the username to sign in with, and nothing of the launch.

use axum::response::Response;

use super::browser::{SignedIn, Visitor};
use super::page;
use super::steps::{app_view, person_view};
use super::views::SwitchPerson;
use crate::app::App;
use crate::config::SANDBOX_PASSWORD;
use crate::oauth::client::Client;
use crate::oauth::request::Request;

/// The page; its form signs in as `wanted`, the username of the person who launched.
pub fn show(
    app: &App,
    visitor: &Visitor,
    person: &SignedIn,
    client: &Client,
    request: &Request,
    wanted: &str,
) -> Response {
    let action = format!("/oauth/authorize/{}", request.id);
    page::render(&SwitchPerson {
        shell: page::bare_shell(app),
        csrf: visitor.csrf(app, &request.id),
        cancel: action.clone(),
        action,
        app: app_view(app, client),
        now: person_view(person),
        wanted: wanted.to_owned(),
        shared_word: app.policy.shared_password.then(|| SANDBOX_PASSWORD.into()),
    })
}
