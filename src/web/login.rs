//! Signing in on the way from an app: the page, and the form it posts.

use axum::response::Response;

use super::answer::see_other;
use super::browser::{Visitor, begin_session};
use super::page;
use super::views::{Face, Login, Person, Signer, Switch};
use crate::app::App;
use crate::config::SANDBOX_PASSWORD;
use crate::crypto::same;
use crate::error::Problem;
use crate::events::{Event, Kind};
use crate::identity::account::Account;
use crate::identity::newcomer;
use crate::identity::session::Session;
use crate::oauth::client::Client;
use crate::oauth::params::Params;
use crate::oauth::request::Request;
use crate::store::db::Verdict;

/// The page; `error` stands above the form, and `username` is kept in it.
pub fn show(
    app: &App,
    visitor: &Visitor,
    client: &Client,
    request: &Request,
    username: &str,
    error: Option<&str>,
) -> Result<Response, Problem> {
    let action = format!("/oauth/authorize/{}", request.id);
    let people = if app.policy.shared_password { app.store.read(Account::own_people)? } else { Vec::new() };
    let typed =
        if username.is_empty() { request.asked.login_hint.as_deref().unwrap_or("") } else { username };
    let still_good =
        |s: &&super::browser::SignedIn| request.asked.accepts_sign_in(s.session.signed_in, request.created);
    let page = Login {
        shell: page::bare_shell(app),
        csrf: visitor.csrf(app, &request.id),
        cancel: Some(action.clone()),
        app: Some(super::steps::app_view(app, client)),
        switch: visitor.signed_in.as_ref().map(|s| Switch {
            now: s.account.name.clone(),
            wanted: None,
            stay: Some(s).filter(still_good).map(|_| action.clone()),
        }),
        action,
        error: error.map(str::to_owned),
        username: typed.to_owned(),
        people: people.into_iter().map(signer).collect(),
        shared_word: SANDBOX_PASSWORD.into(),
    };
    Ok(page::render(&page))
}

/// A person of the sandbox, to sign in as.
pub fn signer(account: Account) -> Signer {
    Signer {
        username: account.username,
        person: Person { face: Face::of(&account.name), name: account.name, about: account.about },
    }
}

/// The form: who it is. A wrong answer shows the page again; a right one begins a new session, ends the
/// one there was, and leads back to the request.
pub async fn sign_in(
    app: &App,
    visitor: &Visitor,
    client: &Client,
    request: &Request,
    form: &Params,
) -> Result<Response, Problem> {
    let typed = form.one("username")?.unwrap_or_default().trim().to_owned();
    // The cards of the sandbox's people carry no password: it is printed beside them.
    let card = form.one("person")?.filter(|_| app.policy.shared_password).map(str::to_owned);
    let proven = card.is_some()
        || (app.policy.shared_password
            && same(form.one("password")?.unwrap_or_default().as_bytes(), SANDBOX_PASSWORD.as_bytes()));
    let username = card.unwrap_or_else(|| typed.clone());
    let (now, chance, client_id) = (app.now(), app.chance.clone(), request.client.clone());
    let old_cookie = visitor.session_cookie();
    let secret = app
        .store
        .write(move |tx| {
            let event = Event::new(Kind::SignIn, now).client(client_id);
            let account = if proven { newcomer::account_named(tx, &username, now, &chance)? } else { None };
            let Some(account) = account.filter(|a| !a.disabled) else {
                event.refused("no such person, a wrong password, or shut out").insert(tx)?;
                return Ok(Verdict::Commit(None));
            };
            if let Some(cookie) = old_cookie {
                Session::end(tx, &cookie, now)?;
            }
            let secret = Session::begin(tx, &account.id, now, &chance)?;
            event.account(account.id).insert(tx)?;
            Ok(Verdict::Commit(Some(secret)))
        })
        .await?;
    match secret {
        Some(secret) => {
            Ok(begin_session(app, see_other(&format!("/oauth/authorize/{}", request.id)), secret))
        }
        None => {
            let words = if app.policy.shared_password {
                format!(
                    "This username and password do not go together. In this sandbox everybody’s password \
                     is “{SANDBOX_PASSWORD}”, and the username may also be the id of any Patient or Practitioner."
                )
            } else {
                "This username and password do not go together.".to_owned()
            };
            show(app, visitor, client, request, &typed, Some(&words))
        }
    }
}
